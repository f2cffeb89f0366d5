//! What a query cost, in the full shape of Loki's statistics.
//!
//! There are no ingesters, caches or shards here: their members are there because clients take
//! them for granted, and are zero.

use std::fmt::Write as _;
use std::time::Duration;

use pilothouse_logql::QueryStats;

const CACHES: [&str; 10] = [
    "chunk",
    "index",
    "result",
    "statsResult",
    "volumeResult",
    "seriesResult",
    "labelResult",
    "instantMetricResult",
    "logResult",
    "taskResult",
];
const CACHE_MEMBERS: [&str; 8] = [
    "entriesFound",
    "entriesRequested",
    "entriesStored",
    "bytesReceived",
    "bytesSent",
    "requests",
    "downloadTime",
    "queryLengthServed",
];
const DATAOBJ_MEMBERS: [&str; 14] = [
    "prePredicateDecompressedRows",
    "prePredicateDecompressedBytes",
    "prePredicateDecompressedStructuredMetadataBytes",
    "postPredicateRows",
    "postPredicateDecompressedBytes",
    "postPredicateStructuredMetadataBytes",
    "postFilterRows",
    "pagesScanned",
    "pagesDownloaded",
    "pagesDownloadedBytes",
    "pageBatches",
    "totalRowsAvailable",
    "totalPageDownloadTime",
    "wireBytesTransferred",
];

/// A JSON object.
pub(crate) fn stats_json(stats: &QueryStats, queued: Duration) -> String {
    let mut out = String::with_capacity(4096);
    out.push_str("{\"summary\":");
    push_summary(&mut out, stats, queued);
    out.push_str(",\"querier\":{\"store\":");
    push_store(&mut out, stats);
    let _ = write!(out, ",\"querierExecTime\":{}}}", seconds(stats.exec_ns));
    out.push_str(",\"ingester\":{\"totalReached\":0,\"totalChunksMatched\":0,\"totalBatches\":0,\"totalLinesSent\":0,\"store\":");
    push_store(&mut out, &QueryStats::default());
    out.push_str("},\"cache\":{");
    for (i, cache) in CACHES.iter().enumerate() {
        let _ = write!(out, "{}\"{cache}\":", if i == 0 { "" } else { "," });
        push_zeros(&mut out, &CACHE_MEMBERS);
    }
    let _ = write!(
        out,
        "}},\"index\":{{\"totalChunks\":{},\"postFilterChunks\":{},\"shardsDuration\":0,\"usedBloomFilters\":false,\
         \"totalStreams\":{},\"chunkRefsLookupTime\":0,\"bloomFilterTime\":0}}}}",
        stats.blocks,
        stats.blocks.saturating_sub(stats.blocks_pruned),
        stats.streams,
    );
    out
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn push_summary(out: &mut String, stats: &QueryStats, queued: Duration) {
    let per_second = |n: u64| {
        let took = seconds(stats.exec_ns);
        if took > 0.0 { (n as f64 / took) as u64 } else { 0 }
    };
    let _ = write!(
        out,
        "{{\"bytesProcessedPerSecond\":{},\"linesProcessedPerSecond\":{},\"totalBytesProcessed\":{},\
         \"totalLinesProcessed\":{},\"execTime\":{},\"queueTime\":{},\"subqueries\":0,\"totalEntriesReturned\":{},\
         \"splits\":0,\"shards\":0,\"totalPostFilterLines\":{},\"totalStructuredMetadataBytesProcessed\":0}}",
        per_second(stats.bytes),
        per_second(stats.lines),
        stats.bytes,
        stats.lines,
        seconds(stats.exec_ns),
        queued.as_secs_f64(),
        stats.entries_returned,
        stats.lines_after_filter,
    );
}

fn push_store(out: &mut String, stats: &QueryStats) {
    let _ = write!(
        out,
        "{{\"totalChunksRef\":{},\"totalChunksDownloaded\":{},\"chunksDownloadTime\":0,\
         \"queryReferencedStructuredMetadata\":false,\"queryUsedV2Engine\":false,\"chunk\":{{\"headChunkBytes\":0,\
         \"headChunkLines\":0,\"decompressedBytes\":{},\"decompressedLines\":{},\"compressedBytes\":0,\
         \"totalDuplicates\":0,\"postFilterLines\":{},\"headChunkStructuredMetadataBytes\":0,\
         \"decompressedStructuredMetadataBytes\":0}},\"chunkRefsFetchTime\":0,\"congestionControlLatency\":0,\
         \"pipelineWrapperFilteredLines\":0,\"dataobj\":",
        stats.blocks,
        stats.blocks.saturating_sub(stats.blocks_pruned),
        stats.decompressed_bytes,
        stats.lines,
        stats.lines_after_filter,
    );
    push_zeros(out, &DATAOBJ_MEMBERS);
    out.push('}');
}

fn push_zeros(out: &mut String, members: &[&str]) {
    for (i, name) in members.iter().enumerate() {
        let _ = write!(out, "{}\"{name}\":0", if i == 0 { '{' } else { ',' });
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_have_the_whole_shape() {
        let stats = QueryStats {
            streams: 2,
            lines: 10,
            bytes: 1000,
            lines_after_filter: 4,
            blocks: 5,
            blocks_pruned: 3,
            decompressed_bytes: 900,
            entries_returned: 4,
            exec_ns: 500_000_000,
        };
        let json: serde_json::Value =
            serde_json::from_str(&stats_json(&stats, Duration::from_millis(250))).unwrap();
        assert_eq!(json["summary"]["bytesProcessedPerSecond"], 2000);
        assert_eq!(json["summary"]["execTime"], 0.5);
        assert_eq!(json["summary"]["queueTime"], 0.25);
        assert_eq!(json["querier"]["store"]["totalChunksDownloaded"], 2);
        assert_eq!(json["querier"]["store"]["chunk"]["decompressedBytes"], 900);
        assert_eq!(json["ingester"]["store"]["dataobj"]["pagesScanned"], 0);
        assert_eq!(json["cache"].as_object().unwrap().len(), 10);
        assert_eq!(json["index"]["totalStreams"], 2);
    }
}
