//! Whether clients are served: asked, not remembered.

use std::time::Duration;

use oxkeeper_model::Query;
use thiserror::Error;

use crate::service::Service;

/// Why clients are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unwell {
    #[error("clients cannot connect: the task that accepts them has ended")]
    NotAccepting,
    #[error("the shard does not serve")]
    NotServing,
    #[error("the shard has not answered within {} ms", .0.as_millis())]
    Slow(Duration),
}

/// Has the shard answer a question, in its turn among those of clients.
pub(crate) async fn ask_shard(service: &Service, within: Duration) -> Result<(), Unwell> {
    match tokio::time::timeout(within, service.query(Query::Barrier)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Unwell::NotServing),
        Err(_) => Err(Unwell::Slow(within)),
    }
}
