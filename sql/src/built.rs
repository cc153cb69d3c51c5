//! Rules for plans that are built over the table of spans, as those of TraceQL are: such a plan has no names to be looked up, no
//! subqueries and no joins, so most of DataFusion's logical rules, which look at every node for those, find nothing in it.
//! Analysis and logical rules took a third of the time of a query that is answered from memory.

use std::sync::Arc;

use datafusion::{
    execution::{SessionState, SessionStateBuilder},
    optimizer::{
        OptimizerRule, analyzer::type_coercion::TypeCoercion, common_subexpr_eliminate::CommonSubexprEliminate,
        eliminate_filter::EliminateFilter, optimize_projections::OptimizeProjections, optimize_unions::OptimizeUnions,
        propagate_empty_relation::PropagateEmptyRelation, push_down_filter::PushDownFilter, push_down_limit::PushDownLimit,
        replace_distinct_aggregate::ReplaceDistinctWithAggregate, simplify_expressions::SimplifyExpressions,
    },
};

/// `template` with the rules that built plans need, each applied once: a second round finds nothing that matters.
pub(crate) fn for_built_plans(template: &SessionState) -> SessionState {
    let mut config = template.config().clone();
    config.options_mut().optimizer.max_passes = 1;
    SessionStateBuilder::new_from_existing(template.clone())
        .with_config(config)
        .with_analyzer_rules(vec![Arc::new(TypeCoercion::new())])
        .with_optimizer_rules(rules())
        .build()
}

fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}
