//! Files as a kernel writes them, and what is shown of them.

use super::{Host, disks};

/// A root with the given files.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let text = Host::at(root.path()).render();
    (root, text)
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let (_root, text) = host(files);
    for line in expected {
        assert!(text.lines().any(|l| l == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn processors_and_processes() {
    let stat = "cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 100 200 300 400 500 600 700 800 900 1000\n\
                cpu1 1 2 3 4 5 6 7 8 9 10\nintr 12345 1 2\nctxt 99\nbtime 1700000000\nprocesses 7\n\
                procs_running 2\nprocs_blocked 1\n";
    check(
        &[("proc/stat", stat), ("proc/loadavg", "0.50 1.25 2.00 1/100 5\n")],
        &[
            "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 1",
            "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"} 8",
            "node_cpu_seconds_total{cpu=\"1\",mode=\"iowait\"} 0.05",
            "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"nice\"} 10",
            "node_intr_total 12345",
            "node_context_switches_total 99",
            "node_forks_total 7",
            "node_boot_time_seconds 1700000000",
            "node_procs_running 2",
            "node_procs_blocked 1",
            "node_load1 0.5",
            "node_load15 2",
        ],
    );
}

#[test]
fn memory_pressure_and_paging() {
    check(
        &[
            ("proc/meminfo", "MemTotal:       1000 kB\nActive(anon):   2 kB\nHugePages_Total:    3\n"),
            (
                "proc/pressure/memory",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0 total=7\n",
            ),
            ("proc/vmstat", "nr_free_pages 5\npgpgin 6\npgfault 7\npgmajfault 8\npswpout 9\noom_kill 1\n"),
        ],
        &[
            "node_memory_MemTotal_bytes 1024000",
            "node_memory_Active_anon_bytes 2048",
            "node_memory_HugePages_Total 3",
            "node_pressure_memory_waiting_seconds_total 2.5",
            "node_pressure_memory_stalled_seconds_total 0.000007",
            "node_vmstat_pgpgin 6",
            "node_vmstat_pgmajfault 8",
            "node_vmstat_oom_kill 1",
        ],
    );
    let (_root, text) = host(&[("proc/vmstat", "nr_free_pages 5\n")]);
    assert!(!text.contains("nr_free_pages"));
}

#[test]
fn disks_without_their_partitions() {
    let stats = "   8  0 sda 10 1 16 2000 20 2 32 3000 1 500 4500 4 5 6 700 8 900\n\
                 8 1 sda1 1 1 1 1 1 1 1 1 1 1 1\n 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n\
                 259 0 nvme0n1 5 0 0 0 0 0 0 0 0 0 0\n 259 1 nvme0n1p1 5 0 0 0 0 0 0 0 0 0 0\n";
    check(
        &[("proc/diskstats", stats)],
        &[
            "node_disk_info{device=\"sda\",major=\"8\",minor=\"0\"} 1",
            "node_disk_reads_completed_total{device=\"sda\"} 10",
            "node_disk_read_bytes_total{device=\"sda\"} 8192",
            "node_disk_read_time_seconds_total{device=\"sda\"} 2",
            "node_disk_written_bytes_total{device=\"sda\"} 16384",
            "node_disk_io_now{device=\"sda\"} 1",
            "node_disk_io_time_weighted_seconds_total{device=\"sda\"} 4.5",
            "node_disk_flush_requests_total{device=\"sda\"} 8",
            "node_disk_reads_completed_total{device=\"nvme0n1\"} 5",
        ],
    );
    let (_root, text) = host(&[("proc/diskstats", stats)]);
    assert!(!text.contains("sda1") && !text.contains("loop0") && !text.contains("nvme0n1p1"));
}

#[test]
fn file_systems_that_hold_something() {
    for (line, shown) in [
        ("/dev/sda1 / ext4 rw,relatime 0 0", true),
        ("/dev/sdb1 /my\\040data xfs ro 0 0", true),
        ("tmpfs /tmp tmpfs rw 0 0", true),
        ("tmpfs /run tmpfs rw 0 0", false),
        ("tmpfs /runner tmpfs rw 0 0", true),
        ("proc /proc proc rw 0 0", false),
        ("overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0", false),
        ("server:/x /mnt nfs4 rw 0 0", false),
        ("sshfs /mnt fuse.sshfs rw 0 0", false),
        ("too few words", false),
    ] {
        assert_eq!(disks::is_shown(line), shown, "{line}");
    }
    let (root, _) =
        host(&[("data/x", ""), ("proc/1/mounts", "/dev/a /data ext4 rw 0 0\n/dev/b /gone ext4 ro 0 0\n")]);
    let text = Host::at(root.path()).render();
    for line in [
        "node_filesystem_device_error{device=\"/dev/a\",fstype=\"ext4\",mountpoint=\"/data\"} 0",
        "node_filesystem_device_error{device=\"/dev/b\",fstype=\"ext4\",mountpoint=\"/gone\"} 1",
        "node_filesystem_readonly{device=\"/dev/a\",fstype=\"ext4\",mountpoint=\"/data\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("node_filesystem_size_bytes{device=\"/dev/a\""));
}

#[test]
fn the_network() {
    let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets\n\
               eth0: 100 2 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n";
    check(
        &[
            ("proc/net/dev", dev),
            ("sys/class/net/eth0/statistics/rx_nohandler", "4\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/address", "02:00:00:00:00:01\n"),
            ("sys/class/net/eth0/mtu", "1500\n"),
            ("sys/class/net/eth0/speed", "1000\n"),
            ("proc/net/snmp", "Tcp: ActiveOpens RtoMin\nTcp: 5 200\nUdp: InErrors\nUdp: 1\n"),
            ("proc/net/netstat", "TcpExt: ListenDrops EmbryonicRsts\nTcpExt: 3 4\n"),
            ("proc/net/snmp6", "Ip6InOctets   77\nUdpLite6InErrors 2\n"),
            ("proc/net/sockstat", "sockets: used 9\nTCP: inuse 5 orphan 0 tw 1 alloc 6 mem 2\n"),
        ],
        &[
            "node_network_receive_bytes_total{device=\"eth0\"} 100",
            "node_network_receive_multicast_total{device=\"eth0\"} 8",
            "node_network_transmit_bytes_total{device=\"eth0\"} 900",
            "node_network_transmit_compressed_total{device=\"eth0\"} 16",
            "node_network_receive_bytes_total{device=\"lo\"} 1",
            "node_network_receive_nohandler_total{device=\"eth0\"} 4",
            "node_network_up{device=\"eth0\"} 1",
            "node_network_mtu_bytes{device=\"eth0\"} 1500",
            "node_network_speed_bytes{device=\"eth0\"} 125000000",
            "node_netstat_Tcp_ActiveOpens 5",
            "node_netstat_Udp_InErrors 1",
            "node_netstat_TcpExt_ListenDrops 3",
            "node_netstat_Ip6_InOctets 77",
            "node_netstat_UdpLite6_InErrors 2",
            "node_sockstat_sockets_used 9",
            "node_sockstat_TCP_mem 2",
            "node_sockstat_TCP_mem_bytes 8192",
        ],
    );
}

#[test]
fn what_it_is_and_what_it_lacks() {
    check(
        &[
            ("proc/sys/kernel/ostype", "Linux\n"),
            ("proc/sys/kernel/arch", "x86_64\n"),
            ("proc/sys/kernel/osrelease", "6.1\n"),
            ("proc/sys/kernel/version", "#1\n"),
            ("proc/sys/kernel/hostname", "vm\n"),
            ("proc/sys/kernel/domainname", "(none)\n"),
            ("proc/sys/fs/file-nr", "700\t0\t9000\n"),
        ],
        &[
            "node_uname_info{domainname=\"(none)\",machine=\"x86_64\",nodename=\"vm\",release=\"6.1\",sysname=\"Linux\",version=\"#1\"} 1",
            "node_filefd_allocated 700",
            "node_filefd_maximum 9000",
        ],
    );
    // Nothing but the clock on a host without files.
    let (_root, text) = host(&[]);
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1, "{text}");
}
