//! `tracehouse sql`.

use super::{output::Output, question, source};
use crate::{cli::SqlArgs, error::Result, roles};

/// Asks and writes the answer.
pub async fn run(args: &SqlArgs) -> Result<()> {
    let output = Output::new(args.source.format, args.source.output.as_deref())?;
    let query = question(&args.query)?;
    let (engine, tenant) = source::open(&args.source).await?;
    let sessions = roles::sessions(&Default::default(), engine)?;
    let mut frame = sessions.sql(&tenant, &query).await?;
    if args.limit.is_some() {
        frame = frame.limit(0, args.limit)?;
    }
    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
    let batches = sessions.stream(frame).await?;
    output.write(schema, batches).await?;
    Ok(())
}
