//! Read only: what is refused before it is planned, and once more after.

use datafusion::{
    execution::context::SQLOptions,
    logical_expr::LogicalPlan,
    sql::{parser::Statement as DfStatement, sqlparser::ast::Statement},
};
use tracehouse_engine::error::{Error, ErrorKind, Result};

/// Refuses statements that are not questions.
pub fn check_statement(statement: &DfStatement) -> Result<()> {
    let what = match statement {
        DfStatement::Statement(inner) => return check_inner(inner),
        DfStatement::Explain(explain) => return check_statement(&explain.statement),
        DfStatement::CopyTo(_) => "COPY",
        DfStatement::CreateExternalTable(_) => "CREATE EXTERNAL TABLE",
        DfStatement::Reset(_) => "RESET",
    };
    Err(read_only(what))
}

fn check_inner(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Query(_)
        | Statement::ExplainTable { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowFunctions { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowVariables { .. } => Ok(()),
        Statement::Explain { statement, .. } => check_inner(statement),
        other => {
            let text = other.to_string();
            Err(read_only(text.split_whitespace().next().unwrap_or("this statement")))
        }
    }
}

/// Refuses plans that would change something: what hides inside a query, as `SELECT ... INTO`.
pub fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(plan).map_err(|e| Error::new(ErrorKind::Invalid, "read only: send a SELECT").with_source(e.strip_backtrace()))
}

fn read_only(what: &str) -> Error {
    Error::invalid(format!("read only: {what} is refused, send SELECT, EXPLAIN, SHOW or DESCRIBE"))
}
