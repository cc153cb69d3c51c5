//! Sessions: where every plan is made and run. What is costly is set up once and shared; a session is a copy with a tenant.

use std::{collections::HashMap, fmt::Debug, num::NonZeroUsize, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::DataType};
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::ParamValues,
    error::Result as DfResult,
    execution::{
        SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
        context::QueryPlanner,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF},
    physical_plan::{ExecutionPlan, common::collect, execute_stream},
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
    prelude::{DataFrame, SessionConfig, SessionContext},
    sql::parser::Statement,
};
use datafusion_functions_json::{JSON_UNION_DATA_TYPE, functions::json_union_to_text};
use tokio::time::Instant;
use tracehouse_engine::{
    Engine, Snapshot, TenantId,
    error::{Error, ErrorKind, Result},
    scan::{AggregateInScan, SpanColumn, SpansTable},
};

use crate::{
    admission::{Admission, AdmissionStats},
    attribute_rule::AttributesByKey,
    built::for_built_plans,
    config::Config,
    functions, guard, placeholders,
    query::{Admitted, BoundedRows, Execution},
    tables::{CATALOG, SCHEMA, TenantTables},
};

/// Number of consumers named when memory runs out.
const MEMORY_CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).unwrap();

/// What other crates add to sessions. The process gathers it; `sql` knows none of them.
#[derive(Clone, Default)]
pub struct Extensions {
    /// Turn logical nodes of other crates into physical ones.
    pub planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
    /// Scalar functions.
    pub scalar_functions: Vec<Arc<ScalarUDF>>,
    /// Aggregate functions.
    pub aggregate_functions: Vec<Arc<AggregateUDF>>,
    /// What depends on the tenant, as table functions do.
    pub sessions: Vec<Arc<dyn SessionExtension>>,
}

/// Adds to a session what depends on its tenant.
pub trait SessionExtension: Debug + Send + Sync {
    /// Called for each session; must be cheap.
    fn extend(&self, sessions: &Sessions, tenant: &TenantId, session: &SessionContext);
}

/// Makes sessions and runs plans. Cheap to clone.
///
/// A door asks [`admit`](Self::admit) for each query and uses what it gets; what was not admitted has no bounds of its own and
/// serves planning and commands without a server.
#[derive(Clone)]
pub struct Sessions {
    engine: Arc<Engine>,
    config: Arc<Config>,
    template: Arc<SessionState>,
    /// For plans that come ready built.
    built: Arc<SessionState>,
    extensions: Arc<[Arc<dyn SessionExtension>]>,
    admission: Arc<Admission>,
    /// The query these sessions belong to.
    query: Option<Arc<Admitted>>,
    /// What tables of spans read; nothing for what there is when a plan is made.
    parts: Option<Arc<Snapshot>>,
}

impl Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions over an engine. Fails if the folder for spilled data cannot be used.
    pub fn new(config: Config, engine: Arc<Engine>) -> Result<Self> {
        Self::with_extensions(config, engine, Extensions::default())
    }

    /// Sessions over an engine, with what other crates add.
    pub fn with_extensions(config: Config, engine: Arc<Engine>, extensions: Extensions) -> Result<Self> {
        let mut template = SessionStateBuilder::new()
            .with_config(session_config(&config))
            .with_runtime_env(runtime(&config)?)
            .with_expr_planners(functions::first_planners())
            .with_default_features()
            .with_optimizer_rule(Arc::new(AttributesByKey))
            .with_physical_optimizer_rule(Arc::new(AggregateInScan))
            .with_query_planner(Arc::new(Planner { planners: extensions.planners }))
            .build();
        functions::register(&mut template)?;
        {
            use datafusion::execution::FunctionRegistry;
            for function in extensions.scalar_functions {
                template.register_udf(function)?;
            }
            for function in extensions.aggregate_functions {
                template.register_udaf(function)?;
            }
        }
        let admission = Arc::new(Admission::new(&config));
        Ok(Self {
            engine,
            config: Arc::new(config),
            built: Arc::new(for_built_plans(&template)),
            template: Arc::new(template),
            extensions: extensions.sessions.into(),
            admission,
            query: None,
            parts: None,
        })
    }

    /// Waits until a query of this tenant may run, and gives it sessions of its own: with a bound on memory, and a deadline that
    /// counts from now. Its slot is free again when all clones of them and all their streams are dropped.
    pub async fn admit(&self, tenant: &TenantId) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(self.config.query_timeout_seconds.max(1));
        let bytes_max = usize::try_from(self.config.query_memory_bytes_max).unwrap_or(usize::MAX);
        let query = Admitted::wait(&self.admission, tenant, deadline, self.template.runtime_env(), bytes_max).await?;
        Ok(Self { query: Some(Arc::new(query)), ..self.clone() })
    }

    /// Admits a query and runs it until its deadline at most. Dropping the future stops it.
    pub async fn run<T>(&self, tenant: &TenantId, query: impl AsyncFnOnce(Self) -> Result<T>) -> Result<T> {
        let admitted = self.admit(tenant).await?;
        let Some(bounds) = admitted.query.clone() else { return query(admitted).await };
        bounds.within(query(admitted)).await
    }

    /// The same sessions whose tables of spans read these blocks and live spans and no others.
    #[must_use]
    pub fn reading(&self, parts: Arc<Snapshot>) -> Self {
        Self { parts: Some(parts), ..self.clone() }
    }

    /// What a query of this tenant reads that starts now.
    pub fn snapshot(&self, tenant: &TenantId) -> Arc<Snapshot> {
        self.parts.clone().unwrap_or_else(|| Arc::new(self.engine.snapshot(tenant)))
    }

    /// How many queries run and wait, and what became of the others.
    pub fn admission(&self) -> AdmissionStats {
        self.admission.stats()
    }

    /// The same sessions over another engine.
    #[must_use]
    pub fn over(&self, engine: Arc<Engine>) -> Self {
        Self { engine, parts: None, ..self.clone() }
    }

    /// The engine below.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A session that sees the tables of this tenant and nothing else, for questions that name tables and functions.
    pub fn session(&self, tenant: &TenantId) -> SessionContext {
        let session = SessionContext::new_with_state(self.template.as_ref().clone());
        session.register_catalog_list(Arc::new(TenantTables::new(self.engine.clone(), tenant.clone())));
        for extension in self.extensions.iter() {
            extension.extend(self, tenant, &session);
        }
        session
    }

    /// The tenant's spans as a table, with extra columns behind the fixed ones.
    pub fn spans_table(&self, tenant: &TenantId, extra: impl IntoIterator<Item = SpanColumn>) -> SpansTable {
        SpansTable::with_columns(self.engine.clone(), tenant.clone(), extra).reading(self.parts.clone())
    }

    /// Plans a question in SQL. Parameters are `$1`, `$2` or `?`; bind them with [`DataFrame::with_param_values`].
    pub async fn sql(&self, tenant: &TenantId, sql: &str) -> Result<DataFrame> {
        if sql.len() > self.config.sql_bytes_max {
            return Err(Error::new(ErrorKind::TooLarge, format!("SQL text is longer than {} bytes", self.config.sql_bytes_max)));
        }
        let state = self.session(tenant).state();
        let sql = placeholders::number(sql);
        let statement: Statement = state.sql_to_statement(&sql, &state.config().options().sql_parser.dialect)?;
        guard::check_statement(&statement)?;
        let plan = state.statement_to_plan(statement).await?;
        guard::check_plan(&plan)?;
        Ok(DataFrame::new(state, json_as_text(plan)?))
    }

    /// A question with its parameters.
    pub async fn sql_with(&self, tenant: &TenantId, sql: &str, values: impl Into<ParamValues>) -> Result<DataFrame> {
        Ok(self.sql(tenant, sql).await?.with_param_values(values)?)
    }

    /// Makes a plan ready to run that was built over [`Self::spans_table`]: nothing in it has to be looked up by name, so it takes
    /// no session. It may filter, project, aggregate, sort, limit and unite, but not join.
    pub async fn prepare(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        guard::check_plan(plan)?;
        Ok(self.built.create_physical_plan(plan).await?)
    }

    /// Starts a plan.
    pub async fn execute(&self, frame: DataFrame) -> Result<Execution> {
        let context = self.bounded(frame.task_ctx());
        self.start(frame.create_physical_plan().await?, context)
    }

    /// Starts a plan that is ready to run, in a [`Self::context`] or that of a plan around it. A plan runs once.
    pub fn execute_ready(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Execution> {
        self.start(plan, context)
    }

    /// What prepared plans run in, and what is made of their rows: its memory is that of the query. It knows no functions by name.
    pub fn context(&self) -> Arc<TaskContext> {
        let (id, config, runtime) = (self.template.session_id(), self.template.config(), self.template.runtime_env());
        let (scalar, aggregate, window) = (HashMap::new(), HashMap::new(), HashMap::new());
        let context = TaskContext::new(None, id.to_owned(), config.clone(), scalar, HashMap::new(), aggregate, window, runtime.clone());
        self.bounded(context)
    }

    fn bounded(&self, context: TaskContext) -> Arc<TaskContext> {
        Arc::new(match &self.query {
            Some(query) => context.with_runtime(query.runtime.clone()),
            None => context,
        })
    }

    /// The one place where plans are run.
    fn start(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Execution> {
        let rows = execute_stream(plan.clone(), context)?;
        let rows = match &self.query {
            Some(query) => Box::pin(BoundedRows::new(rows, query.clone())),
            None => rows,
        };
        Ok(Execution { plan, rows })
    }

    /// Starts a plan. Dropping the stream stops it.
    pub async fn stream(&self, frame: DataFrame) -> Result<SendableRecordBatchStream> {
        Ok(self.execute(frame).await?.rows)
    }

    /// Runs a plan to its end; only for answers known to be small.
    pub async fn collect(&self, frame: DataFrame) -> Result<Vec<RecordBatch>> {
        Ok(collect(self.stream(frame).await?).await?)
    }
}

fn session_config(config: &Config) -> SessionConfig {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut session = SessionConfig::new()
        .with_target_partitions(if config.target_partitions == 0 { cores } else { config.target_partitions })
        .with_batch_size(config.batch_rows.max(1))
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let parser = &mut session.options_mut().sql_parser;
    parser.dialect = datafusion::config::Dialect::PostgreSQL;
    // Clients of Flight SQL know Utf8 better than Utf8View.
    parser.map_string_types_to_utf8view = false;
    session
}

fn runtime(config: &Config) -> Result<Arc<RuntimeEnv>> {
    let mode = config.spill_dir.clone().map_or(DiskManagerMode::OsTmpDirectory, |dir| DiskManagerMode::Directories(vec![dir]));
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(config.spill_bytes_max);
    let pool = TrackConsumersPool::new(FairSpillPool::new(config.memory_bytes_max as usize), MEMORY_CONSUMERS_NAMED);
    Ok(RuntimeEnvBuilder::new().with_disk_manager_builder(disk).with_memory_pool(Arc::new(pool)).build_arc()?)
}

/// What `->` gives is a union inside and JSON text, as in Postgres, at the surface.
fn json_as_text(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_json = |t: &DataType| *t == *JSON_UNION_DATA_TYPE;
    if !plan.schema().fields().iter().any(|f| is_json(f.data_type())) {
        return Ok(plan);
    }
    let columns = plan.schema().iter().map(|(relation, field)| {
        let column = Expr::from((relation, field));
        if is_json(field.data_type()) { json_union_to_text(column).alias_qualified(relation.cloned(), field.name()) } else { column }
    });
    let columns: Vec<_> = columns.collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// DataFusion's planner, with the nodes of other crates.
struct Planner {
    planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
}

impl Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("planners", &self.planners.len()).finish()
    }
}

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &dyn Session) -> DfResult<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(self.planners.clone()).create_physical_plan(plan, state).await
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{arrow::util::pretty::pretty_format_batches, common::ScalarValue};
    use tracehouse_engine::{config::Config as EngineConfig, store::BlockStore};

    use super::*;

    fn sessions() -> (tempfile::TempDir, Sessions) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlockStore::open_local(dir.path(), true).unwrap();
        let engine = Arc::new(Engine::new(store, EngineConfig::default()));
        (dir, Sessions::new(Config::default(), engine).unwrap())
    }

    async fn ask(sessions: &Sessions, sql: &str) -> Result<String> {
        let frame = sessions.sql(&TenantId::single(), sql).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let mut batches = sessions.collect(frame).await?;
        batches.insert(0, RecordBatch::new_empty(schema));
        Ok(pretty_format_batches(&batches).unwrap().to_string())
    }

    #[tokio::test]
    async fn an_empty_table_answers() {
        let (_dir, sessions) = sessions();
        let text = ask(&sessions, "select count(*) as n from spans").await.unwrap();
        assert!(text.contains("| 0 |"), "{text}");
        ask(&sessions, "select * from tracehouse.public.spans where start_time > now() - interval '1 hour'").await.unwrap();
        let text =
            ask(&sessions, "select table_catalog, table_schema, table_type from information_schema.tables where table_name = 'spans'")
                .await;
        assert!(text.as_ref().unwrap().contains("| tracehouse    | public       | BASE TABLE |"), "{text:?}");
        ask(&sessions, "show tables").await.unwrap();
        ask(&sessions, "describe spans").await.unwrap();
        ask(&sessions, "explain analyze select name from spans").await.unwrap();
    }

    #[tokio::test]
    async fn json_operators_work() {
        let (_dir, sessions) = sessions();
        ask(&sessions, "select span_attributes->'a'->'b', span_attributes->>'a' from spans where resource_attributes ? 'k'").await.unwrap();
        let text =
            ask(&sessions, "select events[0]['name'], s.span_attributes['k'] from spans s where span_attributes['k'] = 3").await.unwrap();
        assert!(text.contains("| events[0]['name'] | span_attributes['k'] |"), "{text}");
        let text = ask(&sessions, r#"select ('{"a":{"b":[1,"x"]}}')['a']['b'][1] as x, (array[7, 8])[2] as y"#).await.unwrap();
        assert!(text.contains(r#"| "x" | 8 |"#), "{text}");
        let frame = sessions.sql(&TenantId::single(), "select '{\"a\": [1, \"x\"]}'->'a' as a, '{\"b\": 7}'->>'b' as b").await.unwrap();
        let names: Vec<_> = frame.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        assert_eq!(names, [("a".to_owned(), DataType::Utf8View), ("b".to_owned(), DataType::Utf8)]);
        let text = ask(&sessions, "select '{\"a\": [1, \"x\"]}'->'a' as a, '{\"b\": 7}'->>'b' as b").await.unwrap();
        assert!(text.contains(r#"| [1, "x"] | 7 |"#), "{text}");
    }

    #[tokio::test]
    async fn one_attribute_is_read_by_itself() {
        let (_dir, sessions) = sessions();
        for (sql, columns) in [
            ("select span_attributes->>'a' as a, count(*) from spans group by 1", &["span_attributes[a]@"][..]),
            ("select count(*) from spans s where s.resource_attributes->>'a b' = 'x' and name = 'n'", &["resource_attributes[a b]@"]),
            (
                "select json_get_int(s.scope_attributes, 'n') from spans s where span_attributes ? 'k' order by 1",
                &["scope_attributes[n]@", "span_attributes[k]@"],
            ),
        ] {
            let plan = ask(&sessions, &format!("explain {sql}")).await.unwrap();
            assert!(columns.iter().all(|column| plan.contains(column)) && !plan.contains("_attributes@"), "{plan}");
        }
        let plan = ask(&sessions, "explain select json_length(span_attributes), span_attributes->>name from spans").await.unwrap();
        assert!(plan.contains("span_attributes@") && !plan.contains("span_attributes["), "{plan}");
    }

    #[tokio::test]
    async fn scans_learn_from_the_plan_above() {
        let (_dir, sessions) = sessions();
        let plan = ask(&sessions, "explain select name from spans order by start_time desc limit 10").await.unwrap();
        assert!(plan.contains("tightening=DynamicFilter"), "{plan}");
    }

    #[tokio::test]
    async fn writes_are_refused() {
        let (_dir, sessions) = sessions();
        for sql in [
            "create table t as select 1",
            "create external table t stored as csv location '/etc/passwd'",
            "create view v as select 1",
            "drop table spans",
            "insert into spans select * from spans",
            "update spans set name = 'x'",
            "delete from spans",
            "truncate spans",
            "copy spans to '/tmp/x.csv' stored as csv",
            "copy (select 1) to '/tmp/x.csv'",
            "set datafusion.execution.batch_size = 1",
            "reset datafusion.execution.batch_size",
            "begin",
            "prepare p as select 1",
            "execute p",
            "select 1 into t",
            "with x as (insert into spans select * from spans returning *) select * from x",
            "explain analyze insert into spans select * from spans",
            "explain create table t as select 1",
            "select 1; drop table spans",
            "alter table spans add column x int",
            "load data inpath 'x' into table spans",
        ] {
            let error = match sessions.sql(&TenantId::single(), sql).await {
                Err(e) => e,
                Ok(frame) => panic!("{sql} was planned: {:?}", frame.logical_plan()),
            };
            assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported), "{sql}: {:?} {error}", error.kind());
        }
    }

    #[tokio::test]
    async fn wrong_questions_are_the_callers() {
        let (_dir, sessions) = sessions();
        for (sql, says) in [
            ("", "No SQL"),
            ("selekt 1", "selekt"),
            ("select nope from spans", "nope"),
            ("select * from nope", "nope"),
            ("select * from '/etc/passwd'", "/etc/passwd"),
            ("select nope(name) from spans", "nope"),
            ("select name + duration_ns from spans where name > 3 and start_time = 'x'", "x"),
            ("select 1/0", "ivide by zero"),
        ] {
            let error = ask(&sessions, sql).await.expect_err(sql);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error}");
            assert!(error.to_string().contains(says), "{sql}: {error}");
        }
        let long = format!("select '{}'", "x".repeat(2 << 20));
        assert_eq!(ask(&sessions, &long).await.unwrap_err().kind(), ErrorKind::TooLarge);
        let deep = format!("select {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert_eq!(ask(&sessions, &deep).await.unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn parameters_are_bound() {
        let (_dir, sessions) = sessions();
        let values = vec![ScalarValue::from(20i64), ScalarValue::from("x")];
        let frame = sessions.sql_with(&TenantId::single(), "select $1 + 1 as a, ? as b, $2 as c", values).await;
        assert!(frame.is_ok(), "{frame:?}");
        let frame = sessions.sql(&TenantId::single(), "select name from spans where duration_ns > ? and name = ? limit ?").await.unwrap();
        let types = frame.logical_plan().get_parameter_types().unwrap();
        assert_eq!(types["$1"], Some(DataType::Int64));
        assert_eq!(types.len(), 3);
        let values = vec![ScalarValue::from(20i64), ScalarValue::from("x"), ScalarValue::from(3i64)];
        sessions.collect(frame.with_param_values(values).unwrap()).await.unwrap();
    }
}
