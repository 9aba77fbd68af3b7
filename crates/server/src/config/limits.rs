//! The section `[limits]`: every bound of [`Limits`] by its name.

use std::time::Duration;

use everywire_base::limits::Limits;

use super::reader::{self, Fault, Fields, Reader, Value};

enum Bound {
    Count(fn(&mut Limits, usize)),
    Bytes(fn(&mut Limits, usize)),
    Duration(fn(&mut Limits, Duration)),
}

use Bound::{Bytes, Count, Duration as Time};

const BOUNDS: &[(&str, Bound)] = &[
    ("connections_per_worker", Count(|l, n| l.connections_per_worker = u32::try_from(n).unwrap_or(u32::MAX))),
    ("outbox_bytes", Bytes(|l, n| l.outbox_bytes = n)),
    ("receive_buffer_bytes", Bytes(|l, n| l.receive_buffer_bytes = n)),
    ("http_head_bytes", Bytes(|l, n| l.http_head_bytes = n)),
    ("http_body_bytes", Bytes(|l, n| l.http_body_bytes = n)),
    ("pipelined_publishes", Count(|l, n| l.pipelined_publishes = n)),
    ("batch_messages", Count(|l, n| l.batch_messages = n)),
    ("json_depth", Count(|l, n| l.json_depth = n)),
    ("slow_request", Time(|l, d| l.slow_request = d)),
    ("unfinished_bytes", Bytes(|l, n| l.unfinished_bytes = n)),
    ("unfinished_bytes_per_address", Bytes(|l, n| l.unfinished_bytes_per_address = n)),
    ("unfinished_bytes_before_login", Bytes(|l, n| l.unfinished_bytes_before_login = n)),
    ("reserved_files", Count(|l, n| l.reserved_files = n)),
    ("idle_keep_alive", Time(|l, d| l.idle_keep_alive = d)),
    ("long_poll_max", Time(|l, d| l.long_poll_max = d)),
    ("long_poll_default", Time(|l, d| l.long_poll_default = d)),
    ("heartbeat", Time(|l, d| l.heartbeat = d)),
    ("page_messages_default", Count(|l, n| l.page_messages_default = n)),
    ("page_messages_max", Count(|l, n| l.page_messages_max = n)),
    ("page_bytes", Bytes(|l, n| l.page_bytes = n)),
    ("filters_per_subscription", Count(|l, n| l.filters_per_subscription = n)),
    ("filter_bytes", Bytes(|l, n| l.filter_bytes = n)),
    ("disk_bytes", Bytes(|l, n| l.disk_bytes = n)),
    ("append_queue_records", Count(|l, n| l.append_queue_records = n)),
    ("append_queue_bytes", Bytes(|l, n| l.append_queue_bytes = n)),
    ("tail_records", Count(|l, n| l.tail_records = n)),
    ("tail_bytes", Bytes(|l, n| l.tail_bytes = n)),
    ("idempotency_keys", Count(|l, n| l.idempotency_keys = n)),
    ("idempotency_keys_each", Count(|l, n| l.idempotency_keys_each = n)),
    ("idempotency_window", Time(|l, d| l.idempotency_window = d)),
    ("ordered_producers", Count(|l, n| l.ordered_producers = n)),
    ("ordered_producers_each", Count(|l, n| l.ordered_producers_each = n)),
    ("ordered_window", Time(|l, d| l.ordered_window = d)),
    ("read_queue", Count(|l, n| l.read_queue = n)),
    ("deliveries_per_turn", Count(|l, n| l.deliveries_per_turn = n)),
    ("api_calls", Count(|l, n| l.api_calls = n)),
    ("api_calls_per_address", Count(|l, n| l.api_calls_per_address = n)),
    ("drain", Time(|l, d| l.drain = d)),
    ("message_bytes", Bytes(|l, n| l.message_bytes = n)),
    ("login", Time(|l, d| l.login = d)),
    ("session_window", Count(|l, n| l.session_window = n)),
    ("session_claims", Count(|l, n| l.session_claims = n)),
    ("session_expiry_max", Time(|l, d| l.session_expiry_max = d)),
    ("last_seen", Time(|l, d| l.last_seen = d)),
    ("will_grace", Time(|l, d| l.will_grace = d)),
    ("wills", Count(|l, n| l.wills = n)),
    ("wills_each", Count(|l, n| l.wills_each = n)),
    ("pipelined_asks", Count(|l, n| l.pipelined_asks = n)),
    ("asks_per_turn", Count(|l, n| l.asks_per_turn = n)),
    ("auth_queue", Count(|l, n| l.auth_queue = n)),
    ("auth_per_address", Count(|l, n| l.auth_per_address = n)),
    ("guests_per_address", Count(|l, n| l.guests_per_address = n)),
    ("trace_records", Count(|l, n| l.trace_records = n)),
    ("trace_recipients", Count(|l, n| l.trace_recipients = n)),
    ("user_connections", Count(|l, n| l.per_user.connections = narrow(n))),
    ("user_publishes_per_second", Count(|l, n| l.per_user.publishes_per_second = narrow(n))),
    ("user_bytes_per_second", Bytes(|l, n| l.per_user.bytes_per_second = narrow(n))),
    ("address_connections", Count(|l, n| l.per_address.connections = narrow(n))),
    ("address_publishes_per_second", Count(|l, n| l.per_address.publishes_per_second = narrow(n))),
    ("address_bytes_per_second", Bytes(|l, n| l.per_address.bytes_per_second = narrow(n))),
];

/// A number for a bound that is counted in 32 bits.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Reads the section.
pub(super) fn read<'t>(reader: &mut Reader<'t>, mut fields: Fields<'_, 't>) -> Limits {
    let mut limits = Limits::default();
    for (name, bound) in BOUNDS {
        match bound {
            Count(set) => fields.take(reader, name, |v| positive(reader::count(v)?)).map(|n| set(&mut limits, n)),
            Bytes(set) => fields.take(reader, name, |v| positive(reader::bytes(v)?)).map(|n| set(&mut limits, n)),
            Time(set) => fields.take(reader, name, some_time).map(|d| set(&mut limits, d)),
        };
    }
    fields.end(reader);
    limits
}

fn positive(number: u64) -> Result<usize, Fault> {
    let number = usize::try_from(number).ok().filter(|n| *n > 0);
    number.ok_or_else(|| String::from("a bound is at least 1: leave it out to have the default").into())
}

fn some_time(value: &Value<'_>) -> Result<Duration, Fault> {
    let duration = reader::duration(value)?;
    if duration.is_zero() {
        return Err(String::from("it must be longer than nothing: leave it out to have the default").into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_can_be_configured() {
        let debug = format!("{:#?}", Limits::default());
        let (mut names, mut outer) = (Vec::new(), "");
        for (name, _) in debug.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": ")) {
            match (name.strip_prefix("    "), name) {
                // A bound of a quota: `user_connections` is `per_user.connections`.
                (Some(inner), _) if outer.starts_with("per_") => names.push(format!("{}_{inner}", &outer[4..])),
                (None, "per_user" | "per_address") => outer = name,
                (None, name) => names.push(name.to_owned()),
                _ => {}
            }
        }
        let known: Vec<&str> = BOUNDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(known, names);
    }

    #[test]
    fn each_name_sets_its_own_bound() {
        for (name, bound) in BOUNDS {
            let value = match bound {
                Count(_) => "12345",
                Bytes(_) => "\"12345B\"",
                Time(_) => "\"12345ms\"",
            };
            let text = format!("{name} = {value}\n");
            let (mut reader, table) = Reader::parse("f", &text);
            let limits = read(&mut reader, Fields::new("limits", table.get_ref()));
            assert_eq!(reader.finish(), []);
            let debug = format!("{limits:#?}");
            let inner = name.split_once('_').filter(|(of, _)| matches!(*of, "user" | "address"));
            let name = inner.map_or(*name, |(_, name)| name);
            let is_it = |line: &str| line.trim_start().starts_with(&format!("{name}: "));
            let mut lines = debug.lines().filter(|line| is_it(line));
            assert!(lines.any(|line| line.contains("12345") || line.contains("12.345s")), "{name} in {debug}");
        }
    }
}
