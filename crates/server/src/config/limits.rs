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
    ("unread_bytes", Bytes(|l, n| l.unread_bytes = n)),
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
    ("bridges", Count(|l, n| l.bridges = n)),
    ("bridge_records", Count(|l, n| l.bridge_records = n)),
    ("bridge_bytes", Bytes(|l, n| l.bridge_bytes = n)),
    ("bridge_sources", Count(|l, n| l.bridge_sources = n)),
    ("read_queue", Count(|l, n| l.read_queue = n)),
    ("deliveries_per_turn", Count(|l, n| l.deliveries_per_turn = n)),
    ("api_calls", Count(|l, n| l.api_calls = n)),
    ("api_calls_per_address", Count(|l, n| l.api_calls_per_address = n)),
    ("drain", Time(|l, d| l.drain = d)),
    ("message_bytes", Bytes(|l, n| l.message_bytes = n)),
    ("login", Time(|l, d| l.login = d)),
    ("session_window", Count(|l, n| l.session_window = n)),
    ("session_claims", Count(|l, n| l.session_claims = n)),
    ("guards", Count(|l, n| l.rooms.guards = n)),
    ("rooms", Count(|l, n| l.rooms.rooms = n)),
    ("rooms_each", Count(|l, n| l.rooms.each = n)),
    ("memberships", Count(|l, n| l.rooms.memberships = n)),
    ("rooms_per_user", Count(|l, n| l.rooms.per_user = n)),
    ("room_members", Count(|l, n| l.rooms.members = n)),
    ("edit_window", Time(|l, d| l.rooms.edit_window = d)),
    ("room_crowd", Count(|l, n| l.rooms.crowd = n)),
    ("presence_circles", Count(|l, n| l.rooms.circles = n)),
    ("presence_departures", Count(|l, n| l.rooms.departures = n)),
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
    ("retained_bytes_each", Bytes(|l, n| l.retained_bytes_each = n)),
    ("session_bytes_each", Bytes(|l, n| l.session_bytes_each = n)),
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

    /// The bounds with their values, a line each.
    fn lines_of(limits: &Limits) -> Vec<String> {
        let text = format!("{limits:#?}");
        let fields = text.lines().filter_map(|line| line.trim().strip_suffix(','));
        fields.filter(|line| line.contains(": ")).map(str::to_owned).collect()
    }

    /// The lines of the bounds that a name sets.
    fn set_by(name: &str, bound: &Bound) -> Vec<(usize, String)> {
        let value = match bound {
            Count(_) => "12345",
            Bytes(_) => "\"12345B\"",
            Time(_) => "\"12345ms\"",
        };
        let text = format!("{name} = {value}\n");
        let (mut reader, table) = Reader::parse("f", &text);
        let limits = read(&mut reader, Fields::new("limits", table.get_ref()));
        assert_eq!(reader.finish(), []);
        let lines = lines_of(&limits).into_iter().enumerate();
        lines.zip(lines_of(&Limits::default())).filter(|((_, now), before)| now != before).map(|(now, _)| now).collect()
    }

    #[test]
    fn each_name_sets_its_own_bound_and_every_bound_can_be_configured() {
        let mut set = Vec::new();
        for (name, bound) in BOUNDS {
            let [(at, line)] = &set_by(name, bound)[..] else { panic!("{name} sets one bound") };
            let (field, value) = line.split_once(": ").expect("a field");
            // A bound of a group has the group in its name: `user_connections` is `per_user.connections`.
            assert!(name.ends_with(field), "{name} sets {field}");
            assert!(value.contains("12345") || value.contains("12.345s"), "{name} becomes {value}");
            set.push(*at);
        }
        set.sort_unstable();
        assert_eq!(set, (0..lines_of(&Limits::default()).len()).collect::<Vec<_>>());
    }
}
