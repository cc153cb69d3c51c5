//! Actions: prepared statements and session options. Nothing is kept between calls.

use std::collections::HashMap;

use arrow::{datatypes::Schema, ipc::writer::IpcWriteOptions};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoResult, CancelStatus, IpcMessage, SchemaAsIpc,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
        ProstMessageExt,
    },
};
use bytes::Bytes;
use prost::Message;
use tracehouse_engine::{
    TenantId,
    error::{Error, ErrorKind, Result},
};
use tracehouse_sql::{CATALOG, SCHEMA, Sessions};

use crate::{
    answer::no_transaction,
    handle::{Handle, parameter_schema},
    plain::plain_schema,
};

/// Actions and what they do.
const ACTIONS: [(&str, &str); 6] = [
    (
        "CreatePreparedStatement",
        "Checks a statement and gives a handle to run it.\nRequest: ActionCreatePreparedStatementRequest\nResponse: ActionCreatePreparedStatementResult",
    ),
    ("ClosePreparedStatement", "Forgets a handle.\nRequest: ActionClosePreparedStatementRequest\nResponse: none"),
    (
        "CancelFlightInfo",
        "Answers that a query is stopped by ending its DoGet call.\nRequest: CancelFlightInfoRequest\nResponse: CancelFlightInfoResult",
    ),
    (
        "SetSessionOptions",
        "Checks the options `catalog` and `schema`.\nRequest: SetSessionOptionsRequest\nResponse: SetSessionOptionsResult",
    ),
    (
        "GetSessionOptions",
        "Gives the options `catalog` and `schema`.\nRequest: GetSessionOptionsRequest\nResponse: GetSessionOptionsResult",
    ),
    ("CloseSession", "Ends a session.\nRequest: CloseSessionRequest\nResponse: CloseSessionResult"),
];

/// All actions, for `ListActions`.
pub fn list() -> Vec<ActionType> {
    ACTIONS.iter().map(|(name, what)| ActionType { r#type: (*name).to_owned(), description: (*what).to_owned() }).collect()
}

/// Does an action; gives the bodies of its results.
pub async fn run(action: &Action, sessions: &Sessions, tenant: &TenantId) -> Result<Vec<Bytes>> {
    let body = match action.r#type.as_str() {
        "CreatePreparedStatement" => prepare(unpack(action)?, sessions, tenant).await?.as_any().encode_to_vec(),
        "ClosePreparedStatement" => {
            // Nothing is held, so nothing is let go; a handle that is not one is still told.
            let request: ActionClosePreparedStatementRequest = unpack(action)?;
            Handle::read(&request.prepared_statement_handle)?;
            return Ok(Vec::new());
        }
        "CancelFlightInfo" => CancelFlightInfoResult::new(CancelStatus::NotCancellable).encode_to_vec(),
        "SetSessionOptions" => set_options(decode(action)?).encode_to_vec(),
        "GetSessionOptions" => SessionOptions { session_options: options() }.encode_to_vec(),
        "CloseSession" => CloseSessionResult { status: CLOSED }.encode_to_vec(),
        other => {
            let names: Vec<_> = ACTIONS.iter().map(|(name, _)| *name).collect();
            let message = format!("action {other:?} is not supported: there are {}", names.join(", "));
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    Ok(vec![body.into()])
}

fn decode<M: Message + Default>(action: &Action) -> Result<M> {
    M::decode(action.body.as_ref()).map_err(|e| Error::invalid(format!("body of action {}", action.r#type)).with_source(e))
}

fn unpack<M: ProstMessageExt>(action: &Action) -> Result<M> {
    let any: Any = decode(action)?;
    let wrong = || Error::invalid(format!("body of action {} is of another type", action.r#type));
    any.unpack().map_err(|e| wrong().with_source(e))?.ok_or_else(wrong)
}

async fn prepare(
    request: ActionCreatePreparedStatementRequest,
    sessions: &Sessions,
    tenant: &TenantId,
) -> Result<ActionCreatePreparedStatementResult> {
    no_transaction(request.transaction_id.as_deref())?;
    let handle = Handle::new(request.query);
    let frame = handle.plan(sessions, tenant).await?;
    Ok(ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle.write(),
        // Clients take an empty schema for "this is an update".
        dataset_schema: schema_bytes(&plain_schema(frame.schema().as_arrow()))?,
        parameter_schema: schema_bytes(&parameter_schema(&frame)?)?,
    })
}

/// A schema as an encapsulated IPC message.
fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}

// Messages of the Flight protocol that arrow-flight does not have yet; numbers and names are those of Flight.proto.

/// A value of a session option.
#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

/// `SetSessionOptionsRequest` and `GetSessionOptionsResult`, which look alike.
#[derive(Clone, PartialEq, Message)]
struct SessionOptions {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

/// Why one option was not set.
#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

/// `SetSessionOptionsResult`.
#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

/// `CloseSessionResult`.
#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

const CLOSED: i32 = 1;
const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;

fn options() -> HashMap<String, OptionValue> {
    let option = |name: &str, value: &str| (name.to_owned(), OptionValue { string_value: Some(value.to_owned()) });
    HashMap::from([option("catalog", CATALOG), option("schema", SCHEMA)])
}

/// There is one catalog and one schema: setting them to anything else is an error, and nothing is remembered.
fn set_options(request: SessionOptions) -> SetSessionOptionsResult {
    let allowed = options();
    let error = |(name, value): (String, OptionValue)| match allowed.get(&name) {
        None => Some((name, OptionError { value: INVALID_NAME })),
        Some(only) if value == *only || value.string_value.as_deref().is_none_or(str::is_empty) => None,
        Some(_) => Some((name, OptionError { value: INVALID_VALUE })),
    };
    SetSessionOptionsResult { errors: request.session_options.into_iter().filter_map(error).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_catalog_can_be_set() {
        let text = |v: &str| OptionValue { string_value: Some(v.to_owned()) };
        let request = SessionOptions {
            session_options: HashMap::from([
                ("catalog".to_owned(), text("tracehouse")),
                ("schema".to_owned(), text("other")),
                ("colour".to_owned(), text("red")),
            ]),
        };
        let errors = set_options(request).errors;
        assert_eq!(errors.len(), 2);
        assert_eq!(errors["schema"].value, INVALID_VALUE);
        assert_eq!(errors["colour"].value, INVALID_NAME);
    }
}
