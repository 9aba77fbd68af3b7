//! Every bound of the server, by name. Each has a metric or an error that names it.

use std::time::Duration;

use crate::quota::Quota;

/// The bounds. The defaults are those of the documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections of a worker; further ones are closed at once.
    pub connections_per_worker: u32,
    /// Bytes that may wait in a connection's outbox before it lags.
    pub outbox_bytes: usize,
    /// Bytes that may wait in a connection's outbox while it is read; beyond, its client must read first.
    pub unread_bytes: usize,
    /// Bytes read from a socket at once: the size of a worker's one receive buffer.
    pub receive_buffer_bytes: usize,
    /// Bytes of a request's head; more is 431.
    pub http_head_bytes: usize,
    /// Bytes of an HTTP batch or API body; more is 413.
    pub http_body_bytes: usize,
    /// Publishes of one connection that wait for the log at the same time; further input is not read.
    pub pipelined_publishes: usize,
    /// Messages in one batch request.
    pub batch_messages: usize,
    /// Levels of arrays and objects in a JSON body; more is refused at publish. Envelopes and pages add three.
    pub json_depth: usize,
    /// The time within which a head or body must be complete; else 408.
    pub slow_request: Duration,
    /// Bytes of messages that have not come whole, over all connections of a worker.
    pub unfinished_bytes: usize,
    /// The same over all connections of an address at a worker that nobody has logged in on.
    pub unfinished_bytes_per_address: usize,
    /// The same of one connection before login, where login is on.
    pub unfinished_bytes_before_login: usize,
    /// Open files that are kept for the log, the store and its readers: further connections wait.
    pub reserved_files: usize,
    /// The time after which a kept-alive connection without a request is closed.
    pub idle_keep_alive: Duration,
    /// The longest `wait` of a long poll; longer ones are clamped.
    pub long_poll_max: Duration,
    /// The `wait` of a long poll that doesn't say.
    pub long_poll_default: Duration,
    /// The time between heartbeats of a stream.
    pub heartbeat: Duration,
    /// Messages of a page that doesn't say.
    pub page_messages_default: usize,
    /// The most messages of a page.
    pub page_messages_max: usize,
    /// The most bytes of a page's bodies.
    pub page_bytes: usize,
    /// Filters of one HTTP request.
    pub filters_per_subscription: usize,
    /// Bytes of the filters of one connection, about: the text of each, and 128.
    pub filter_bytes: usize,
    /// Bytes of the log and the store on the disk: beyond, the oldest messages of all topics are removed. 0 is three
    /// quarters of the file system's room for them at the start, and at least 1 GiB.
    pub disk_bytes: usize,
    /// Records that wait for the log's appender, over all workers.
    pub append_queue_records: usize,
    /// Bytes that wait for the log's appender.
    pub append_queue_bytes: usize,
    /// Records of the log's shared recent window.
    pub tail_records: usize,
    /// Bytes of the log's shared recent window.
    pub tail_bytes: usize,
    /// Idempotency keys remembered; when full, publishes with a key answer 503.
    pub idempotency_keys: usize,
    /// The number of them that one identity may use, or all anonymous publishers of one address.
    pub idempotency_keys_each: usize,
    /// The time for which an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// Producers of ordered keys that are remembered; the least recently used one is forgotten.
    pub ordered_producers: usize,
    /// The number of them that one identity may have, or all anonymous publishers of one address.
    pub ordered_producers_each: usize,
    /// The time for which a producer is remembered after its last message.
    pub ordered_window: Duration,
    /// Bridges to Kafka.
    pub bridges: usize,
    /// Records of one bridge that are under way between Kafka and the log.
    pub bridge_records: usize,
    /// Bytes of them.
    pub bridge_bytes: usize,
    /// Partitions of Kafka's topics whose progress is remembered.
    pub bridge_sources: usize,
    /// Store reads that wait for the readers, over all workers.
    pub read_queue: usize,
    /// Deliveries of one turn before the worker looks at its sockets again.
    pub deliveries_per_turn: usize,
    /// API calls under way.
    pub api_calls: usize,
    /// API calls of one address under way.
    pub api_calls_per_address: usize,
    /// The longest time of a drain.
    pub drain: Duration,
    /// Bytes of one WebSocket message, or of one frame of the native protocol, from a client; more closes with 1009.
    pub message_bytes: usize,
    /// The longest time in which a connection that must log in may be opened.
    pub login: Duration,
    /// Messages of a session that are sent and not acknowledged; then it waits.
    pub session_window: usize,
    /// Claims of sessions that the log remembers: a later record of a former owner is refused.
    pub session_claims: usize,
    /// Rooms and memberships.
    pub rooms: RoomBounds,
    /// The longest time by which a session outlives its connection.
    pub session_expiry_max: Duration,
    /// The time for which a device's last connection is remembered.
    pub last_seen: Duration,
    /// The time for which a client may stay away after a restart of the server before its will is published.
    pub will_grace: Duration,
    /// Wills of a worker that wait for their delay; one more is published at once.
    pub wills: usize,
    /// The number of them that one user may leave, or all anonymous clients of one address; one more is published at
    /// once.
    pub wills_each: usize,
    /// Asks of one connection that wait for their answer at the same time; further input is not read.
    pub pipelined_asks: usize,
    /// Asks of one connection that are handled in one turn; the others wait for the next, after those of other
    /// connections.
    pub asks_per_turn: usize,
    /// Credentials that wait to be checked, over all workers, for each of the checkers: known identities, the static
    /// users, the application, keys that are read again.
    pub auth_queue: usize,
    /// Credentials of one address that wait for any of these checkers but the first.
    pub auth_per_address: usize,
    /// Guests of one address within a minute.
    pub guests_per_address: usize,
    /// Recent records for which the time of their fan-out is remembered, for traces.
    pub trace_records: usize,
    /// Recipients in one trace.
    pub trace_recipients: usize,
    /// Bytes of retained messages of one user, or of all anonymous clients of one address: beyond, no more are
    /// published.
    pub retained_bytes_each: usize,
    /// Bytes of sessions and wills of one user, or of all anonymous clients of one address: beyond, no new session is
    /// made; beyond twice as many, none goes on.
    pub session_bytes_each: usize,
    /// The quota of one user.
    pub per_user: Quota,
    /// The quota of one address, for all its anonymous clients together.
    pub per_address: Quota,
}

/// The bounds of rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomBounds {
    /// Rooms with a head.
    pub rooms: usize,
    /// The number of them that one user may own.
    pub each: usize,
    /// Memberships, invitations and bans in all rooms.
    pub memberships: usize,
    /// The number of them that one user may have.
    pub per_user: usize,
    /// Members of one room; as many again may be invited or banned.
    pub members: usize,
    /// The time within which an author may change a message.
    pub edit_window: Duration,
    /// Occupants of a room beyond which it is crowded: then admins alone hear of comings and goings, and there are no
    /// signals of typing and of read marks, until there are fewer than four fifths of it.
    pub crowd: usize,
    /// Rooms, and partners of exchanges, of a user that are told of the user's presence.
    pub circles: usize,
    /// Users of a worker's memory who were cut off and may come back. Nobody is told that those beyond have left.
    pub departures: usize,
    /// Records of rooms, memberships and blocks that the log remembers: a draft that was judged before them is judged
    /// again.
    pub guards: usize,
}

impl Default for RoomBounds {
    fn default() -> Self {
        Self {
            rooms: 100_000,
            each: 1000,
            memberships: 1_000_000,
            per_user: 10_000,
            members: 100_000,
            edit_window: Duration::from_hours(24),
            crowd: 500,
            circles: 200,
            departures: 65_536,
            guards: 65_536,
        }
    }
}

impl Default for Limits {
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn default() -> Self {
        Self {
            connections_per_worker: 1_000_000,
            outbox_bytes: 64 << 10,
            unread_bytes: 256 << 10,
            receive_buffer_bytes: 64 << 10,
            http_head_bytes: 16 << 10,
            http_body_bytes: 4 << 20,
            pipelined_publishes: 1024,
            batch_messages: 1000,
            json_depth: 100,
            slow_request: Duration::from_secs(10),
            unfinished_bytes: 256 << 20,
            unfinished_bytes_per_address: 32 << 20,
            unfinished_bytes_before_login: 64 << 10,
            reserved_files: 256,
            idle_keep_alive: Duration::from_secs(75),
            long_poll_max: Duration::from_mins(1),
            long_poll_default: Duration::from_secs(20),
            heartbeat: Duration::from_secs(15),
            page_messages_default: 100,
            page_messages_max: 1000,
            page_bytes: 1 << 20,
            filters_per_subscription: 1000,
            filter_bytes: 2 << 20,
            disk_bytes: 0,
            append_queue_records: 16_384,
            append_queue_bytes: 64 << 20,
            tail_records: 65_536,
            tail_bytes: 32 << 20,
            idempotency_keys: 1_000_000,
            idempotency_keys_each: 100_000,
            idempotency_window: Duration::from_mins(2),
            ordered_producers: 100_000,
            ordered_producers_each: 10_000,
            ordered_window: Duration::from_hours(24 * 7),
            bridges: 64,
            bridge_records: 16_384,
            bridge_bytes: 32 << 20,
            bridge_sources: 65_536,
            read_queue: 4096,
            deliveries_per_turn: 262_144,
            api_calls: 256,
            api_calls_per_address: 64,
            drain: Duration::from_secs(20),
            message_bytes: 1 << 20,
            login: Duration::from_secs(10),
            session_window: 1024,
            session_claims: 131_072,
            rooms: RoomBounds::default(),
            session_expiry_max: Duration::from_hours(24 * 7),
            last_seen: Duration::from_hours(24 * 90),
            will_grace: Duration::from_secs(10),
            wills: 65_536,
            wills_each: 4096,
            pipelined_asks: 1024,
            asks_per_turn: 512,
            auth_queue: 1024,
            auth_per_address: 64,
            guests_per_address: 30,
            trace_records: 4096,
            trace_recipients: 1000,
            retained_bytes_each: 256 << 20,
            session_bytes_each: 256 << 20,
            per_user: Quota::default(),
            per_address: Quota::default(),
        }
    }
}
