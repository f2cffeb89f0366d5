//! Which handler answers which endpoint.

use std::sync::Arc;

use crate::App;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::routes::Endpoint;
use crate::service::Call;
use crate::{admin, census, discover, exposition, federate, otlp, print, push, query, read, status};

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    match endpoint {
        Endpoint::Push => push::remote_write(app, call).await,
        Endpoint::Query => query::instant(app, call).await,
        Endpoint::QueryRange => query::range(app, call).await,
        Endpoint::QueryExemplars => discover::exemplars(app, call).await,
        Endpoint::Series => discover::series(app, call).await,
        Endpoint::Labels => discover::labels(app, call).await,
        Endpoint::LabelValues => discover::label_values(app, call).await,
        Endpoint::Metadata => discover::metadata(app, call).await,
        Endpoint::RemoteRead => read::remote_read(app, call).await,
        Endpoint::TsdbStatus => census::tsdb_status(app, call).await,
        Endpoint::CardinalityNames => census::label_names(app, call).await,
        Endpoint::CardinalityValues => census::label_values(app, call).await,
        Endpoint::CardinalityActive => census::active_series(app, call).await,
        Endpoint::DeleteSeries => admin::delete_series(app, call).await,
        Endpoint::ImportText => push::import_text(app, call).await,
        Endpoint::OtlpMetrics => otlp::metrics(app, call).await,
        Endpoint::Federate => federate::federate(app, call).await,
        Endpoint::OwnMetrics => exposition::own_metrics(app, &call).await,
        Endpoint::FormatQuery => print::format_query(app, call).await,
        Endpoint::ParseQuery => print::parse_query(app, call).await,
        Endpoint::Rules => Ok(status::rules()),
        Endpoint::Alerts => Ok(status::alerts()),
        Endpoint::Targets => Ok(status::targets()),
        Endpoint::Alertmanagers => Ok(status::alertmanagers()),
        Endpoint::BuildInfo => Ok(status::build_info(app)),
        Endpoint::RuntimeInfo => Ok(status::runtime_info(app)),
        Endpoint::ConfigStatus => Ok(status::config(app)),
        Endpoint::Flags => Ok(status::flags()),
        Endpoint::Ready => status::ready(app),
        Endpoint::Healthy => Ok(status::healthy()),
    }
}
