//! What happens in the shop: visits, each a trace, made from a seed.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    calls::{Method, Route, Statement, consume, http_call, http_client, http_server, messaging, postgres, publish, redis, rpc, work},
    scene::{Fault, MICRO, Outcome, Placed, Scene, SpanRef},
    services::{Scope, Service, kv},
};

const PRODUCTS: [(&str, &str, f64); 10] = [
    ("OLJCESPC7Z", "sunglasses", 19.99),
    ("66VCHSJNUP", "tank-top", 18.99),
    ("1YMWWN1N4O", "watch", 109.99),
    ("L9ECAV7KIM", "loafers", 89.99),
    ("2ZYFJ3GM2N", "hairdryer", 24.99),
    ("0PUK6V6EV0", "candle-holder", 18.99),
    ("LS4PSXUNUM", "shaker", 18.49),
    ("9SIQT8TOJO", "bamboo-jar", 5.49),
    ("6E92ZMYYFZ", "mug", 8.99),
    ("HQTGWGPNH4", "comet-book", 0.99),
];
const CURRENCIES: [&str; 6] = ["EUR", "USD", "GBP", "JPY", "CHF", "SEK"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
    "shop-ios/5.2.1 (iPhone; iOS 18.5)",
];

const SELECT_PRODUCTS: Statement = Statement {
    operation: "SELECT",
    table: "products",
    database: "catalogue",
    text: "SELECT id, name, description, picture, price_cents FROM products WHERE category = ANY($1) ORDER BY rank LIMIT $2",
    median: 4_500,
};
const SELECT_PRODUCT: Statement = Statement {
    operation: "SELECT",
    table: "products",
    database: "catalogue",
    text: "SELECT id, name, description, picture, price_cents FROM products WHERE id = $1",
    median: 1_100,
};
const SELECT_RATES: Statement = Statement {
    operation: "SELECT",
    table: "rates",
    database: "shipping",
    text: "SELECT zone, cents FROM rates WHERE country = $1",
    median: 900,
};
const INSERT_CHARGE: Statement = Statement {
    operation: "INSERT",
    table: "charges",
    database: "payment",
    text: "INSERT INTO charges (id, order_id, amount_cents, currency, card_token) VALUES ($1, $2, $3, $4, $5) RETURNING id",
    median: 2_600,
};
const INSERT_ORDER: Statement = Statement {
    operation: "INSERT",
    table: "orders",
    database: "accounting",
    text: "INSERT INTO orders (id, user_id, total_cents, currency, placed_at) VALUES ($1, $2, $3, $4, now())",
    median: 2_200,
};

const LIST_PRODUCTS: Method = method(Service::Catalogue, "shop.CatalogueService", "ListProducts", 700);
const GET_PRODUCT: Method = method(Service::Catalogue, "shop.CatalogueService", "GetProduct", 250);
const GET_ADS: Method = method(Service::Ads, "shop.AdService", "GetAds", 2_200);
const CONVERT: Method = method(Service::Currency, "shop.CurrencyService", "Convert", 120);
const RECOMMEND: Method = method(Service::Recommendation, "shop.RecommendationService", "ListRecommendations", 3_000);
const GET_CART: Method = method(Service::Cart, "shop.CartService", "GetCart", 400);
const ADD_ITEM: Method = method(Service::Cart, "shop.CartService", "AddItem", 450);
const EMPTY_CART: Method = method(Service::Cart, "shop.CartService", "EmptyCart", 300);
const GET_QUOTE: Method = method(Service::Shipping, "shop.ShippingService", "GetQuote", 500);
const SHIP_ORDER: Method = method(Service::Shipping, "shop.ShippingService", "ShipOrder", 6_000);
const CHARGE: Method = method(Service::Payment, "shop.PaymentService", "Charge", 1_500);
const PLACE_ORDER: Method = method(Service::Checkout, "shop.CheckoutService", "PlaceOrder", 1_200);

const fn method(service: Service, rpc_service: &'static str, method: &'static str, work: u64) -> Method {
    Method { service, rpc_service, method, work }
}

/// Orders that fraud detection looks at together.
const FRAUD_BATCH: usize = 5;

/// The shop: an endless source of traces, the same for the same seed and times.
#[derive(Debug)]
pub struct Shop {
    rng: StdRng,
    to_check: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Shop {
    /// A shop from a seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), to_check: Vec::new() }
    }

    /// The spans of one visit that begins at this time (Unix nanoseconds): one trace, now and then two.
    pub fn visit(&mut self, start: u64) -> Vec<Placed> {
        let mut s = Scene::new(&mut self.rng);
        match s.rng.random_range(0..100) {
            0..28 => home(&mut s, start),
            28..62 => product_page(&mut s, start),
            62..74 => view_cart(&mut s, start),
            74..88 => add_to_cart(&mut s, start),
            88..97 => self.to_check.push(checkout(&mut s, start)),
            _ => health(&mut s, start),
        }
        let mut spans = s.finish();
        if self.to_check.len() >= FRAUD_BATCH {
            let orders = std::mem::take(&mut self.to_check);
            let mut s = Scene::new(&mut self.rng);
            check_fraud(&mut s, orders, start + 2_000_000 * MICRO);
            spans.extend(s.finish());
        }
        spans
    }
}

/// Five bad minutes in each hour: the payment provider declines, the catalogue's database is slow.
fn incident(t: u64) -> bool {
    (20..25).contains(&(t / 60_000_000_000 % 60))
}

fn page(
    s: &mut Scene<'_>,
    method: &'static str,
    route: &'static str,
    path: String,
    start: u64,
    body: impl FnOnce(&mut Scene<'_>, SpanRef, u64) -> Outcome,
) {
    let route = Route { service: Service::Frontend, method, route, path };
    let agent = s.pick(&AGENTS);
    let premium = s.chance(0.12);
    let user = s.rng.random_range(1..20_000);
    let address = format!("203.0.113.{}", user % 250 + 1);
    let _ = http_server(s, None, &route, start, |s, span, t| {
        s.set(span, "user_agent.original", agent);
        s.set(span, "client.address", address);
        s.set(span, "user.id", format!("user-{user:05}"));
        s.set(span, "app.user.premium", premium);
        s.set(span, "app.session.age_seconds", (user % 3_600) as f64 * 0.5);
        s.set(span, "app.experiments", vec![premium, user % 2 == 0]);
        body(s, span, t)
    });
}

fn home(s: &mut Scene<'_>, start: u64) {
    page(s, "GET", "/", "/".to_owned(), start, |s, span, t| {
        let (t, listed) = rpc(s, span, &LIST_PRODUCTS, t, |s, server, t| {
            s.set(server, "app.products.count", PRODUCTS.len() as i64);
            postgres(s, server, &SELECT_PRODUCTS, if incident(t) { 12 } else { 1 }, t)
        });
        if listed.is_err() {
            return (t, listed);
        }
        let (t, _) = ads(s, span, t, &["clothing", "kitchen"]);
        render(s, span, t)
    });
}

fn product_page(s: &mut Scene<'_>, start: u64) {
    let (id, name, _) = s.pick(&PRODUCTS);
    page(s, "GET", "/product/{productId}", format!("/product/{id}"), start, |s, span, t| {
        s.set(span, "app.product.id", id);
        if s.chance(0.015) {
            return not_found(s, span, id, t);
        }
        let (t, found) = product(s, span, id, name, t);
        if found.is_err() {
            return (t, found);
        }
        let (t, _) = convert(s, span, t);
        // Side by side: the page waits for the slower of the two.
        let (recommended, _) = recommend(s, span, t);
        let (advertised, _) = ads(s, span, t, &[name]);
        render(s, span, recommended.max(advertised))
    });
}

fn not_found(s: &mut Scene<'_>, span: SpanRef, id: &str, t: u64) -> Outcome {
    let fault = Fault { exception: "NotFound", message: format!("no product with id {id}"), grpc: 5, http: 404 };
    rpc(s, span, &GET_PRODUCT, t, |s, server, t| {
        s.exception(server, t, &fault);
        (t + 100 * MICRO, Err(fault))
    })
}

fn view_cart(s: &mut Scene<'_>, start: u64) {
    page(s, "GET", "/cart", "/cart".to_owned(), start, |s, span, t| {
        let (t, cart) = get_cart(s, span, t);
        if cart.is_err() {
            return (t, cart);
        }
        let (t, _) = items(s, span, t);
        let (t, _) = quote(s, span, t);
        let (t, _) = convert(s, span, t);
        render(s, span, t)
    });
}

fn add_to_cart(s: &mut Scene<'_>, start: u64) {
    let (id, name, price) = s.pick(&PRODUCTS);
    page(s, "POST", "/api/cart", "/api/cart".to_owned(), start, |s, span, t| {
        s.set(span, "app.product.id", id);
        let (t, found) = product(s, span, id, name, t);
        if found.is_err() {
            return (t, found);
        }
        rpc(s, span, &ADD_ITEM, t, |s, server, t| {
            let quantity = s.rng.random_range(1..5);
            s.set(server, "app.product.quantity", quantity);
            s.set(server, "app.product.price", price);
            let (t, stored) = redis(s, server, "HMSET", format!("HMSET cart:user cart {id} {quantity}"), t);
            if stored.is_err() {
                return (t, stored);
            }
            redis(s, server, "EXPIRE", "EXPIRE cart:user 3600".to_owned(), t)
        })
    });
}

fn health(s: &mut Scene<'_>, start: u64) {
    let route = Route { service: Service::Frontend, method: "GET", route: "/healthz", path: "/healthz".to_owned() };
    let _ = http_server(s, None, &route, start, |s, span, t| {
        s.set(span, "user_agent.original", "kube-probe/1.33");
        (t, Ok(()))
    });
}

/// Places an order; gives the context of the message that says so, for fraud detection.
fn checkout(s: &mut Scene<'_>, start: u64) -> (Vec<u8>, Vec<u8>) {
    let mut sent = None;
    page(s, "POST", "/api/checkout", "/api/checkout".to_owned(), start, |s, span, t| {
        rpc(s, span, &PLACE_ORDER, t, |s, server, t| place_order(s, server, t, &mut sent))
    });
    // An order that failed is looked at all the same.
    let Some((at, producer)) = sent else { return s.context(s.root()) };
    let _ = consume(s, producer, Service::Accounting, "accounting", at, |s, span, t| postgres(s, span, &INSERT_ORDER, 1, t));
    s.context(producer)
}

fn place_order(s: &mut Scene<'_>, span: SpanRef, t: u64, sent: &mut Option<(u64, SpanRef)>) -> Outcome {
    let order = format!("{:08x}-{:04x}", s.rng.random::<u32>(), s.rng.random::<u16>());
    let count = s.rng.random_range(1..5);
    let (ids, prices): (Vec<_>, Vec<_>) = PRODUCTS.iter().cycle().skip(count * 3).take(count).map(|(id, _, price)| (*id, *price)).unzip();
    let amount: f64 = prices.iter().sum();
    s.set(span, "app.order.id", order.as_str());
    s.set(span, "app.order.amount", amount);
    s.set(span, "app.order.product_ids", ids);
    s.set(span, "app.order.prices", prices);
    s.event(span, t, "prepared", vec![kv("app.order.items", count as i64)]);
    let (mut t, cart) = get_cart(s, span, t);
    if cart.is_err() {
        return (t, cart);
    }
    (t, _) = items(s, span, t);
    (t, _) = quote(s, span, t);
    let (t, paid) = charge(s, span, amount, t);
    if paid.is_err() {
        return (t, paid);
    }
    s.event(span, t, "charged", vec![kv("app.payment.amount", amount)]);
    let (t, shipped) = rpc(s, span, &SHIP_ORDER, t, work);
    if shipped.is_err() {
        return (t, shipped);
    }
    s.event(span, t, "shipped", vec![kv("app.shipping.tracking_id", format!("TRK-{order}"))]);
    let (t, _) = rpc(s, span, &EMPTY_CART, t, |s, server, t| redis(s, server, "DEL", "DEL cart:user".to_owned(), t));
    let (t, _) = email(s, span, t);
    let (t, producer) = publish(s, span, &order, t);
    *sent = Some((t, producer));
    s.ok(span);
    (t, Ok(()))
}

fn charge(s: &mut Scene<'_>, parent: SpanRef, amount: f64, t: u64) -> Outcome {
    let declined = s.chance(if incident(t) { 0.35 } else { 0.03 });
    rpc(s, parent, &CHARGE, t, |s, server, t| {
        let card = s.pick(&["visa", "mastercard", "amex"]);
        s.set(server, "app.payment.card_type", card);
        s.set(server, "app.payment.amount", amount);
        s.set(server, "app.payment.charged", !declined);
        let client = http_client(s, server, "POST", "api.payments.example.com", 443, "/v1/charges", t);
        let end = t + s.latency(if declined { 90_000 } else { 55_000 });
        s.set(client, "http.response.status_code", if declined { 402 } else { 201 });
        if declined {
            let fault = Fault { exception: "CardDeclinedError", message: format!("card declined: {card}"), grpc: 9, http: 402 };
            s.exception(client, end, &fault);
            s.close(client, end, &Err(fault.clone()));
            return (end, Err(fault));
        }
        s.close(client, end, &Ok(()));
        postgres(s, server, &INSERT_CHARGE, 1, end)
    })
}

fn email(s: &mut Scene<'_>, parent: SpanRef, t: u64) -> Outcome {
    let path = "/send_order_confirmation";
    let route = Route { service: Service::Email, method: "POST", route: path, path: path.to_owned() };
    http_call(s, parent, &route, t, |s, span, t| {
        s.set(span, "app.email.recipient", "customer@example.com");
        let end = t + s.latency(12_000);
        if s.chance(0.01) {
            let fault = Fault { exception: "Net::SMTPServerBusy", message: "450 mailbox busy".to_owned(), grpc: 14, http: 500 };
            s.exception(span, end, &fault);
            return (end, Err(fault));
        }
        (end, Ok(()))
    })
}

fn product(s: &mut Scene<'_>, parent: SpanRef, id: &str, name: &str, t: u64) -> Outcome {
    rpc(s, parent, &GET_PRODUCT, t, |s, server, t| {
        s.set(server, "app.product.id", id);
        s.set(server, "app.product.name", name);
        let hit = s.chance(0.8);
        s.set(server, "app.cache.hit", hit);
        let (t, _) = redis(s, server, "GET", format!("GET product:{id}"), t);
        if hit {
            return (t, Ok(()));
        }
        s.event(server, t, "cache.miss", vec![kv("cache.key", format!("product:{id}")), kv("cache.size", 4_096)]);
        postgres(s, server, &SELECT_PRODUCT, if incident(t) { 15 } else { 1 }, t)
    })
}

fn items(s: &mut Scene<'_>, parent: SpanRef, mut t: u64) -> Outcome {
    for _ in 0..s.rng.random_range(1..4) {
        let (id, name, _) = s.pick(&PRODUCTS);
        (t, _) = product(s, parent, id, name, t);
    }
    (t, Ok(()))
}

fn get_cart(s: &mut Scene<'_>, parent: SpanRef, t: u64) -> Outcome {
    rpc(s, parent, &GET_CART, t, |s, server, t| {
        let count = s.rng.random_range(0..6);
        s.set(server, "app.cart.items.count", count);
        redis(s, server, "HGET", "HGET cart:user cart".to_owned(), t)
    })
}

fn quote(s: &mut Scene<'_>, parent: SpanRef, t: u64) -> Outcome {
    rpc(s, parent, &GET_QUOTE, t, |s, server, t| {
        let cost = s.rng.random_range(399..2_500);
        s.set(server, "app.shipping.cost.total", f64::from(cost) / 100.0);
        postgres(s, server, &SELECT_RATES, 1, t)
    })
}

fn convert(s: &mut Scene<'_>, parent: SpanRef, t: u64) -> Outcome {
    let to = s.pick(&CURRENCIES);
    rpc(s, parent, &CONVERT, t, |s, server, t| {
        s.set(server, "app.currency.conversion.from", "USD");
        s.set(server, "app.currency.conversion.to", to);
        work(s, server, t)
    })
}

fn ads(s: &mut Scene<'_>, parent: SpanRef, t: u64, keys: &[&str]) -> Outcome {
    let fails = s.chance(0.008);
    rpc(s, parent, &GET_ADS, t, |s, server, t| {
        s.set(server, "app.ads.context_keys", keys.to_vec());
        if fails {
            let fault = Fault {
                exception: "java.util.concurrent.TimeoutException",
                message: "ad index did not answer".to_owned(),
                grpc: 14,
                http: 503,
            };
            let end = t + s.latency(100_000);
            s.exception(server, end, &fault);
            return (end, Err(fault));
        }
        s.set(server, "app.ads.count", keys.len() as i64);
        (t, Ok(()))
    })
}

fn recommend(s: &mut Scene<'_>, parent: SpanRef, t: u64) -> Outcome {
    rpc(s, parent, &RECOMMEND, t, |s, server, t| {
        let place = s.place(server);
        let rank = s.open(place, Scope::App, Some(server), "rank_products", SpanKind::Internal, t);
        s.set(rank, "app.model.version", "2026-09");
        let scores = (0..4).map(|_| s.rng.random::<f64>()).collect::<Vec<_>>();
        s.set(rank, "app.model.scores", scores);
        let end = t + s.latency(4_000);
        s.close(rank, end, &Ok(()));
        let products = [s.pick(&PRODUCTS), s.pick(&PRODUCTS)];
        // Side by side again.
        let end = products.into_iter().map(|(id, name, _)| product(s, server, id, name, end).0).max().unwrap_or(end);
        (end, Ok(()))
    })
}

fn render(s: &mut Scene<'_>, parent: SpanRef, t: u64) -> Outcome {
    let place = s.place(parent);
    let span = s.open(place, Scope::App, Some(parent), "render", SpanKind::Internal, t);
    let end = t + s.latency(1_800);
    s.close(span, end, &Ok(()));
    (end, Ok(()))
}

/// Fraud detection takes several orders at once: a trace of its own, with a link to each order's message.
fn check_fraud(s: &mut Scene<'_>, orders: Vec<(Vec<u8>, Vec<u8>)>, start: u64) {
    let place = s.pod(Service::Fraud);
    let batch = s.open(place, Scope::Messaging, None, "process orders", SpanKind::Consumer, start);
    messaging(s, batch, "process", "process");
    s.set(batch, "messaging.consumer.group.name", "fraud-detection");
    s.set(batch, "messaging.batch.message_count", orders.len() as i64);
    let mut t = start + 300 * MICRO;
    for (index, order) in orders.into_iter().enumerate() {
        s.link(batch, order, vec![kv("messaging.batch.index", index as i64)]);
        let span = s.open(place, Scope::App, Some(batch), "score order", SpanKind::Internal, t);
        let score = s.rng.random::<f64>();
        s.set(span, "app.fraud.score", score);
        s.set(span, "app.fraud.suspicious", score > 0.97);
        t += s.latency(7_000);
        s.close(span, t, &Ok(()));
    }
    s.close(batch, t + 200 * MICRO, &Ok(()));
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const START: u64 = 1_760_000_000_000_000_000;

    fn visits(seed: u64, n: u64) -> Vec<Placed> {
        let mut shop = Shop::new(seed);
        (0..n).flat_map(|i| shop.visit(START + i * 50_000_000)).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_spans() {
        let spans = |seed| visits(seed, 50).into_iter().map(|p| p.span).collect::<Vec<_>>();
        assert_eq!(spans(7), spans(7));
        assert_ne!(spans(7), spans(8));
    }

    #[test]
    fn traces_are_trees_and_children_lie_inside_their_parents() {
        let all = visits(1, 2_000);
        let by_id: HashMap<_, _> = all.iter().map(|p| ((&p.span.trace_id, &p.span.span_id), &p.span)).collect();
        assert_eq!(by_id.len(), all.len(), "span ids are unique");
        let mut roots = HashSet::new();
        for Placed { span, .. } in &all {
            assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
            assert!(span.start_time_unix_nano >= START && span.end_time_unix_nano >= span.start_time_unix_nano);
            for event in &span.events {
                assert!((span.start_time_unix_nano..=span.end_time_unix_nano).contains(&event.time_unix_nano), "{} {event:?}", span.name);
            }
            if span.parent_span_id.is_empty() {
                assert!(roots.insert(span.trace_id.clone()), "one root a trace");
                continue;
            }
            let parent = by_id.get(&(&span.trace_id, &span.parent_span_id)).expect("the parent is in the trace");
            assert!(parent.start_time_unix_nano <= span.start_time_unix_nano);
            // What a consumer does happens after its producer.
            let inside = span.end_time_unix_nano <= parent.end_time_unix_nano || span.kind == SpanKind::Consumer as i32;
            assert!(inside, "{} ends after {}", span.name, parent.name);
        }
        let traces: HashSet<_> = all.iter().map(|p| &p.span.trace_id).collect();
        assert_eq!(roots.len(), traces.len());
    }

    #[test]
    fn every_service_kind_and_fault_occurs() {
        let all = visits(1, 2_000);
        let services: HashSet<_> = all.iter().map(|p| p.place.service).collect();
        assert_eq!(services.len(), Service::ALL.len());
        let kinds: HashSet<_> = all.iter().map(|p| p.span.kind).collect();
        assert_eq!(kinds.len(), 5);
        let errors = all.iter().filter(|p| p.span.status.as_ref().is_some_and(|s| s.code == 2)).count();
        assert!(errors > 20 && errors < all.len() / 10, "{errors} of {}", all.len());
        assert!(all.iter().any(|p| p.span.links.len() == FRAUD_BATCH));
        let request = super::super::scene::request(all.clone());
        let spans: usize = request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
        assert_eq!(spans, all.len());
    }
}
