//! What the node counts, and its text for Prometheus. Plain atomics: counting costs a few nanoseconds and never waits.
//!
//! Media threads add per phase, not per packet. Start with [`Metrics`]; [`Metrics::render`] is what `/metrics` answers.

use crate::guest::Stats;
use hookswitch_call::SwitchGauges;
use hookswitch_call::door::Counter;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Something that is there or not: open recordings, legs.
#[derive(Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    /// One part of a sum was `before` and is `now`.
    pub fn change(&self, before: u64, now: u64) {
        self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times in four buckets to each power of two microseconds, up to 8.4 s: a quarter more of a time is another bucket.
pub struct Histogram {
    buckets: [AtomicU64; 88],
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0), max_us: AtomicU64::new(0) }
    }
}

/// 0 to 3 by themselves, then by the highest bit and the two behind it.
fn bucket(us: u64) -> usize {
    match us.checked_ilog2() {
        Some(octave @ 2..) => ((octave - 1) * 4) as usize + (us >> (octave - 2) & 3) as usize,
        _ => us as usize,
    }
}

/// The first microsecond that is beyond a bucket.
fn edge(bucket: usize) -> Duration {
    let next = bucket as u64 + 1;
    Duration::from_micros(if next < 4 { next } else { (4 + next % 4) << (next / 4 - 1) })
}

impl Histogram {
    pub fn record(&self, time: Duration, times: u64) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        add(&self.buckets[bucket(us).min(self.buckets.len() - 1)], times);
        add(&self.sum_us, us.saturating_mul(times));
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us.load(Ordering::Relaxed))
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }

    /// The upper edge of the bucket that holds this part (0.99) of all times.
    pub fn quantile(&self, part: f64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (i, n) in counts.iter().enumerate() {
            seen += n;
            if seen >= wanted && seen > 0 {
                return edge(i).min(self.max());
            }
        }
        Duration::ZERO
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal $({ $($label:ident = $value:literal),* })?;)*) => {
        /// Everything counted. Grouped as it is rendered.
        #[derive(Default)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: metrics!(@type $kind),)*
            /// From a tick's due time to its begin.
            pub tick_lateness: Histogram,
        }

        impl Metrics {
            fn lines(&self, out: &mut String) {
                let mut last = "";
                $(
                    let labels = concat!($("{", $(stringify!($label), "=\"", $value, "\"",)* "}")?);
                    line(out, &mut last, $name, stringify!($kind), concat!($($help),+), labels, metrics!(@value $kind self.$field));
                )*
            }
        }
    };
    (@type counter) => { AtomicU64 };
    (@type gauge) => { Gauge };
    (@value counter $e:expr) => { $e.load(Ordering::Relaxed) };
    (@value gauge $e:expr) => { $e.get() };
}

metrics! {
    /// Calls by what became of them.
    calls_offered: counter = "hookswitch_calls_total" { result = "offered" };
    /// Calls by what became of them.
    calls_placed: counter = "hookswitch_calls_total" { result = "placed" };
    /// Calls by what became of them.
    calls_answered: counter = "hookswitch_calls_total" { result = "answered" };
    /// Calls by what became of them.
    calls_refused: counter = "hookswitch_calls_total" { result = "refused" };
    /// Calls by what became of them.
    calls_completed: counter = "hookswitch_calls_total" { result = "completed" };
    /// Sessions alive.
    sessions: gauge = "hookswitch_sessions";
    /// SIP dialogs alive.
    sip_dialogs: gauge = "hookswitch_sip_dialogs";
    /// SIP transactions alive, those that linger included.
    sip_transactions: gauge = "hookswitch_sip_transactions";
    /// SIP datagrams received.
    sip_received: counter = "hookswitch_sip_datagrams_total" { direction = "in" };
    /// SIP datagrams sent.
    sip_sent: counter = "hookswitch_sip_datagrams_total" { direction = "out" };
    /// SIP datagrams that the kernel refused to send.
    sip_unsent: counter = "hookswitch_sip_unsent_total";
    /// SIP messages received and sent on TCP connections.
    tcp_received: counter = "hookswitch_sip_stream_messages_total" { direction = "in" };
    /// SIP messages received and sent on TCP connections.
    tcp_sent: counter = "hookswitch_sip_stream_messages_total" { direction = "out" };
    /// SIP messages that no connection had room for.
    tcp_unsent: counter = "hookswitch_sip_stream_unsent_total";
    /// SIP connections open, or being opened.
    tcp_connections: gauge = "hookswitch_sip_connections";
    /// SIP connections taken, or not: a limit was reached, or the machine gave none.
    tcp_accepted: counter = "hookswitch_sip_connections_total" { result = "accepted" };
    /// SIP connections taken, or not: a limit was reached, or the machine gave none.
    tcp_refused: counter = "hookswitch_sip_connections_total" { result = "refused" };
    /// SIP connections taken, or not: a limit was reached, or the machine gave none.
    tcp_accept_failed: counter = "hookswitch_sip_connections_total" { result = "accept_failed" };
    /// SIP connections taken, or not: a limit was reached, or the machine gave none.
    tcp_connect_failed: counter = "hookswitch_sip_connections_total" { result = "connect_failed" };
    /// SIP connections that ended, by why.
    tcp_closed: counter = "hookswitch_sip_connections_closed_total" { why = "closed" };
    /// SIP connections that ended, by why.
    tcp_closed_lost: counter = "hookswitch_sip_connections_closed_total" { why = "lost" };
    /// SIP connections that ended, by why.
    tcp_closed_idle: counter = "hookswitch_sip_connections_closed_total" { why = "idle" };
    /// SIP connections that ended, by why.
    tcp_closed_slow: counter = "hookswitch_sip_connections_closed_total" { why = "incomplete" };
    /// SIP connections that ended, by why.
    tcp_closed_unread: counter = "hookswitch_sip_connections_closed_total" { why = "unread" };
    /// SIP connections that ended, by why.
    tcp_closed_unframed: counter = "hookswitch_sip_connections_closed_total" { why = "unframed" };
    /// SIP host names looked up.
    resolved: counter = "hookswitch_sip_lookups_total" { result = "found" };
    /// SIP host names looked up.
    resolve_failed: counter = "hookswitch_sip_lookups_total" { result = "failed" };
    /// Messages and calls refused before they became a session.
    refused_unknown_number: counter = "hookswitch_sip_refused_total" { why = "unknown_number" };
    /// Messages and calls refused before they became a session.
    refused_malformed: counter = "hookswitch_sip_refused_total" { why = "malformed" };
    /// Messages and calls refused before they became a session.
    refused_too_large: counter = "hookswitch_sip_refused_total" { why = "too_large" };
    /// Messages and calls refused before they became a session.
    refused_no_match: counter = "hookswitch_sip_refused_total" { why = "no_match" };
    /// Messages and calls refused before they became a session.
    refused_unsupported: counter = "hookswitch_sip_refused_total" { why = "unsupported" };
    /// Messages and calls refused before they became a session.
    refused_overload: counter = "hookswitch_sip_refused_total" { why = "overload" };
    /// Messages and calls refused before they became a session.
    refused_bad_offer: counter = "hookswitch_sip_refused_total" { why = "bad_offer" };
    /// Hooks without a verdict: traps, deadlines, nonsense.
    hooks_failed: counter = "hookswitch_hooks_failed_total";
    /// Hooks asked again in a new instance.
    hooks_restarted: counter = "hookswitch_hooks_restarted_total";
    /// Calls that the tenant's fallback took.
    fallbacks: counter = "hookswitch_fallbacks_total";
    /// Alarms counted into the next one instead of sent.
    alarms_suppressed: counter = "hookswitch_alarms_suppressed_total";
    /// Extensions of a newer interface that were ignored.
    extensions_ignored: counter = "hookswitch_extensions_ignored_total";
    /// Notifications that found their mailbox full.
    notifications_dropped: counter = "hookswitch_notifications_dropped_total";
    /// Digits beyond the buffer.
    digits_dropped: counter = "hookswitch_digits_dropped_total";
    /// Sessions ended by a fault of ours.
    sessions_panicked: counter = "hookswitch_sessions_panicked_total";
    /// Calls and recordings that their tenant's quota refused.
    quota_sessions: counter = "hookswitch_quota_refused_total" { quota = "max_sessions" };
    /// Calls and recordings that their tenant's quota refused.
    quota_rate: counter = "hookswitch_quota_refused_total" { quota = "calls_per_second" };
    /// Calls and recordings that their tenant's quota refused.
    quota_minutes: counter = "hookswitch_quota_refused_total" { quota = "minutes_per_month" };
    /// Calls and recordings that their tenant's quota refused.
    quota_storage: counter = "hookswitch_quota_refused_total" { quota = "storage_bytes" };
    /// Media legs alive.
    legs: gauge = "hookswitch_legs";
    /// Legs that could not be opened.
    legs_failed: counter = "hookswitch_legs_failed_total";
    /// RTP and RTCP packets received.
    media_received: counter = "hookswitch_media_packets_total" { direction = "in" };
    /// RTP and RTCP packets sent.
    media_sent: counter = "hookswitch_media_packets_total" { direction = "out" };
    /// RTP and RTCP packets that the kernel refused to send.
    media_unsent: counter = "hookswitch_media_unsent_total";
    /// Media packets that did not become audio in time, or at all. Counted as their call ends, those cut by the receive buffer at once.
    rtp_lost: counter = "hookswitch_rtp_unused_total" { why = "lost" };
    /// Media packets that did not become audio in time, or at all. Counted as their call ends, those cut by the receive buffer at once.
    rtp_late: counter = "hookswitch_rtp_unused_total" { why = "late" };
    /// Media packets that did not become audio in time, or at all. Counted as their call ends, those cut by the receive buffer at once.
    rtp_foreign: counter = "hookswitch_rtp_unused_total" { why = "foreign" };
    /// Media packets that did not become audio in time, or at all. Counted as their call ends, those cut by the receive buffer at once.
    rtp_malformed: counter = "hookswitch_rtp_unused_total" { why = "malformed" };
    /// Media packets that did not become audio in time, or at all. Counted as their call ends, those cut by the receive buffer at once.
    rtp_cut: counter = "hookswitch_rtp_unused_total" { why = "cut" };
    /// Commands that a media thread had no room for.
    media_refused: counter = "hookswitch_media_commands_refused_total";
    /// Media events that found no room: never digits or ends of things while there is memory.
    media_events_dropped: counter = "hookswitch_media_events_dropped_total";
    /// Ticks left out after the machine stood still.
    ticks_skipped: counter = "hookswitch_ticks_skipped_total";
    /// Recordings being written.
    recordings_open: gauge = "hookswitch_recordings_open";
    /// Recordings stored.
    recordings_stored: counter = "hookswitch_recordings_total" { result = "stored" };
    /// Recordings that failed.
    recordings_failed: counter = "hookswitch_recordings_total" { result = "failed" };
    /// Recordings repaired after a crash.
    recordings_repaired: counter = "hookswitch_recordings_total" { result = "repaired" };
    /// Recordings that the disk took only a part of.
    recordings_cut: counter = "hookswitch_recordings_degraded_total" { how = "cut" };
    /// Recordings kept as WAV because the encoder failed or was too far behind.
    recordings_not_encoded: counter = "hookswitch_recordings_degraded_total" { how = "not_encoded" };
    /// Times that a closed recording had to wait for the disk.
    recordings_delayed: counter = "hookswitch_recordings_degraded_total" { how = "delayed" };
    /// Closed recordings that are being encoded, or wait for it.
    recordings_encoding: gauge = "hookswitch_recordings_encoding";
    /// Frames of 20 ms recorded.
    recording_frames_received: counter = "hookswitch_recording_frames_total" { kind = "received" };
    /// Frames of 20 ms recorded.
    recording_frames_concealed: counter = "hookswitch_recording_frames_total" { kind = "concealed" };
    /// Frames of 20 ms recorded.
    recording_frames_silence: counter = "hookswitch_recording_frames_total" { kind = "silence" };
    /// Blocks of an unknown recording: always zero.
    recording_blocks_lost: counter = "hookswitch_recording_blocks_lost_total";
    /// Blocks of recorded audio under way to writers.
    blocks_used: gauge = "hookswitch_recording_blocks_used";
    /// Prompts found in memory.
    prompts_cached: counter = "hookswitch_prompts_total" { from = "memory" };
    /// Prompts read from a file.
    prompts_read: counter = "hookswitch_prompts_total" { from = "file" };
    /// Prompts that could not be read.
    prompts_failed: counter = "hookswitch_prompts_total" { from = "nowhere" };
    /// Handlers that tenants sent and the node did not take.
    uploads_refused: counter = "hookswitch_uploads_refused_total";
    /// Properties of API operations that were not known, and ignored.
    api_unknown_properties: counter = "hookswitch_api_unknown_properties_total";
    /// Commands refused since their tenant sent too many a second.
    api_rate_limited: counter = "hookswitch_api_rate_limited_total";
    /// Prompt files that tenants sent and the node did not take.
    prompts_refused: counter = "hookswitch_prompts_refused_total";
    /// Posts of handlers, by what became of them.
    outbox_posted: counter = "hookswitch_outbox_posts_total" { result = "posted" };
    /// Posts of handlers, by what became of them.
    outbox_delivered: counter = "hookswitch_outbox_posts_total" { result = "delivered" };
    /// Posts of handlers, by what became of them.
    outbox_dropped: counter = "hookswitch_outbox_posts_total" { result = "dropped" };
    /// Posts of handlers, by what became of them.
    outbox_refused: counter = "hookswitch_outbox_posts_total" { result = "refused" };
    /// Tries of a post that did not deliver it.
    outbox_retried: counter = "hookswitch_outbox_retries_total";
    /// Posts that wait for their delivery.
    outbox_pending: gauge = "hookswitch_outbox_pending";
    /// Recordings on their way to tenants' storages, by how that ended.
    deliveries_available: counter = "hookswitch_deliveries_total" { result = "available" };
    /// Recordings on their way to tenants' storages, by how that ended.
    deliveries_failed: counter = "hookswitch_deliveries_total" { result = "failed" };
    /// Tries of a delivery that did not end it.
    delivery_retries: counter = "hookswitch_delivery_retries_total";
    /// Bytes of prompts in memory.
    prompt_bytes: gauge = "hookswitch_prompt_bytes";
}

fn line(out: &mut String, last: &mut &'static str, name: &'static str, kind: &str, help: &str, labels: &str, value: u64) {
    if *last != name {
        let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n", help.trim());
        *last = name;
    }
    let _ = writeln!(out, "{name}{labels} {value}");
}

impl Metrics {
    /// Something that the switch counted.
    pub fn count(&self, counter: Counter) {
        let counter = match counter {
            Counter::CallsOffered => &self.calls_offered,
            Counter::CallsPlaced => &self.calls_placed,
            Counter::CallsAnswered => &self.calls_answered,
            Counter::CallsRefused => &self.calls_refused,
            Counter::CallsCompleted => &self.calls_completed,
            Counter::UnknownNumber => &self.refused_unknown_number,
            Counter::SipMalformed => &self.refused_malformed,
            Counter::SipTooLarge => &self.refused_too_large,
            Counter::SipNoMatch => &self.refused_no_match,
            Counter::SipUnsupported => &self.refused_unsupported,
            Counter::SipOverload => &self.refused_overload,
            Counter::BadOffer => &self.refused_bad_offer,
            Counter::HookFailed => &self.hooks_failed,
            Counter::HookRestarted => &self.hooks_restarted,
            Counter::FallbackUsed => &self.fallbacks,
            Counter::AlarmSuppressed => &self.alarms_suppressed,
            Counter::ExtensionIgnored => &self.extensions_ignored,
            Counter::NotificationDropped => &self.notifications_dropped,
            Counter::DigitsDropped => &self.digits_dropped,
            Counter::SessionPanicked => &self.sessions_panicked,
            Counter::QuotaSessions => &self.quota_sessions,
            Counter::QuotaRate => &self.quota_rate,
            Counter::QuotaMinutes => &self.quota_minutes,
            Counter::QuotaStorage => &self.quota_storage,
        };
        add(counter, 1);
    }

    pub fn set_switch(&self, gauges: &SwitchGauges) {
        self.sessions.set(gauges.sessions);
        self.sip_dialogs.set(gauges.endpoint.dialogs);
        self.sip_transactions.set(gauges.endpoint.transactions);
    }

    /// The text format of Prometheus.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(8192);
        self.lines(&mut out);
        let name = "hookswitch_tick_lateness_seconds";
        let _ = write!(out, "# HELP {name} How late media ticks began.\n# TYPE {name} histogram\n");
        let mut sum = 0;
        for (i, bucket) in self.tick_lateness.buckets.iter().enumerate() {
            sum += bucket.load(Ordering::Relaxed);
            let edge = edge(i).as_secs_f64();
            let _ = writeln!(out, "{name}_bucket{{le=\"{edge}\"}} {sum}");
        }
        let total = Duration::from_micros(self.tick_lateness.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {sum}\n{name}_sum {total}\n{name}_count {sum}\n");
        for (name, help, value) in [
            ("hookswitch_tick_lateness_p99_seconds", "99 % of media ticks began at most so late.", self.tick_lateness.quantile(0.99)),
            ("hookswitch_tick_lateness_max_seconds", "The latest media tick since start.", self.tick_lateness.max()),
        ] {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}\n", value.as_secs_f64());
        }
        out
    }
}

/// What the guest room counts of each tenant. Tenants are the operator's, and so is the number of lines.
pub fn render_guests(tenants: &[(Arc<str>, Stats)]) -> String {
    let mut out = String::new();
    let name = "hookswitch_guest_failures_total";
    let _ = write!(out, "# HELP {name} Hooks that a tenant's handler failed, by why.\n# TYPE {name} counter\n");
    for (domain, stats) in tenants {
        // All fields by name: a counter that is added must find its place here.
        let Stats {
            instances: _,
            hooks: _,
            traps,
            deadlines,
            cpu,
            limits,
            refused,
            nonsense,
            unavailable,
            notifications: _,
            notifications_dropped: _,
            log_lines_dropped: _,
            orders_refused: _,
            limited: _,
            rests: _,
            taken_back: _,
            quota_refused: _,
            cpu_us: _,
            decisions: _,
        } = *stats;
        let domain = label(domain);
        for (why, value) in [
            ("trap", traps),
            ("deadline", deadlines),
            ("cpu", cpu),
            ("limit", limits),
            ("refused", refused),
            ("nonsense", nonsense),
            ("unavailable", unavailable),
        ] {
            let _ = writeln!(out, "{name}{{domain=\"{domain}\",why=\"{why}\"}} {value}");
        }
    }
    type Field = fn(&Stats) -> u64;
    let rest: [(&str, &str, Field); 10] = [
        ("hookswitch_guest_hooks_total", "Hooks that were answered, in whatever way.", |s| s.hooks),
        ("hookswitch_guest_instances_total", "Guest instances that were made.", |s| s.instances),
        ("hookswitch_guest_notifications_dropped_total", "Notifications that did not reach their handler.", |s| s.notifications_dropped),
        ("hookswitch_guest_log_dropped_total", "Lines of a handler's log beyond what it may write.", |s| s.log_lines_dropped),
        ("hookswitch_guest_limited_total", "Limits that bit while a handler asked something of the node.", |s| s.limited),
        ("hookswitch_guest_quota_refused_total", "Guest instances that their tenant's quota refused.", |s| s.quota_refused),
        ("hookswitch_guest_cpu_microseconds_total", "CPU time of a tenant's handlers.", |s| s.cpu_us),
        ("hookswitch_guest_orders_refused_total", "Orders of a handler beyond what its session may give.", |s| s.orders_refused),
        ("hookswitch_guest_rests_total", "Versions that were not asked for a while after failing too often.", |s| s.rests),
        ("hookswitch_guest_taken_back_total", "Versions that were taken back since their first calls failed.", |s| s.taken_back),
    ];
    for (name, help, field) in rest {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
        for (domain, stats) in tenants {
            let _ = writeln!(out, "{name}{{domain=\"{}\"}} {}", label(domain), field(stats));
        }
    }
    let name = "hookswitch_guest_decision_seconds";
    let _ = write!(out, "# HELP {name} From a call's question to its handler's answer, since start.\n# TYPE {name} summary\n");
    let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
    for (domain, Stats { decisions, .. }) in tenants {
        let domain = label(domain);
        for (part, us) in [("0.5", decisions.p50_us), ("0.99", decisions.p99_us)] {
            let _ = writeln!(out, "{name}{{domain=\"{domain}\",quantile=\"{part}\"}} {}", seconds(us));
        }
        let _ = writeln!(out, "{name}_sum{{domain=\"{domain}\"}} {}", seconds(decisions.sum_us));
        let _ = writeln!(out, "{name}_count{{domain=\"{domain}\"}} {}", decisions.count);
    }
    out
}

/// A label's value as the text format wants it.
fn label(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Decisions;

    #[test]
    fn each_tenants_failures_are_told_apart() {
        let stats = Stats {
            traps: 1,
            deadlines: 2,
            cpu: 3,
            limits: 4,
            refused: 5,
            nonsense: 6,
            unavailable: 7,
            hooks: 30,
            notifications_dropped: 8,
            log_lines_dropped: 9,
            decisions: Decisions { count: 30, sum_us: 30_000, p50_us: 900, p99_us: 1_500 },
            ..Stats::default()
        };
        let text = render_guests(&[("a.example".into(), stats), ("q\"\\\n".into(), Stats { cpu: 10, ..Stats::default() })]);
        for (why, value) in [("trap", 1), ("deadline", 2), ("cpu", 3), ("limit", 4), ("refused", 5), ("nonsense", 6), ("unavailable", 7)] {
            let line = format!("hookswitch_guest_failures_total{{domain=\"a.example\",why=\"{why}\"}} {value}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}{text}");
        }
        assert!(text.contains(r#"hookswitch_guest_failures_total{domain="q\"\\\n",why="cpu"} 10"#), "{text}");
        assert!(text.contains("hookswitch_guest_notifications_dropped_total{domain=\"a.example\"} 8\n"), "{text}");
        assert!(text.contains("hookswitch_guest_log_dropped_total{domain=\"a.example\"} 9\n"), "{text}");
        assert!(text.contains("hookswitch_guest_hooks_total{domain=\"a.example\"} 30\n"), "{text}");
        let names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        assert_eq!(names.len(), 12);
        for name in names {
            let (name, kind) = name.split_once(' ').unwrap();
            let expected = if name == "hookswitch_guest_decision_seconds" { "summary" } else { "counter" };
            assert_eq!((kind, text.matches(&format!("# HELP {name} ")).count()), (expected, 1));
        }
        for line in
            ["{domain=\"a.example\",quantile=\"0.99\"} 0.0015", "_sum{domain=\"a.example\"} 0.03", "_count{domain=\"a.example\"} 30"]
        {
            assert!(text.contains(&format!("hookswitch_guest_decision_seconds{line}\n")), "{line}{text}");
        }
    }

    #[test]
    fn each_metric_is_described_once_and_has_a_value() {
        let metrics = Metrics::default();
        metrics.count(Counter::CallsRefused);
        metrics.tick_lateness.record(Duration::from_micros(300), 10);
        metrics.tick_lateness.record(Duration::from_millis(3), 1);
        let text = metrics.render();
        assert!(text.contains("\nhookswitch_calls_total{result=\"refused\"} 1\n"), "{text}");
        assert_eq!(text.matches("# TYPE hookswitch_calls_total counter").count(), 1);
        let mut names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("hookswitch_") && value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.contains("hookswitch_tick_lateness_seconds_count 11\n"));
    }

    #[test]
    fn a_time_is_in_the_bucket_below_its_edge() {
        for us in (0..5_000).chain([8_388_607]) {
            let n = bucket(us);
            assert!(edge(n) > Duration::from_micros(us) && (n == 0 || edge(n - 1) <= Duration::from_micros(us)), "{us} in {n}");
        }
        assert_eq!((bucket(8_388_607), edge(87)), (87, Duration::from_micros(1 << 23)));
        let wide = (8..88).map(|n| edge(n).as_secs_f64() / edge(n - 1).as_secs_f64());
        assert!(wide.into_iter().all(|ratio| ratio < 1.2501), "a quarter at most");
    }

    #[test]
    fn quantiles_are_upper_edges() {
        let h = Histogram::default();
        assert_eq!(h.quantile(0.99), Duration::ZERO);
        h.record(Duration::from_micros(100), 99);
        h.record(Duration::from_micros(5000), 1);
        assert_eq!((h.quantile(0.5), h.quantile(0.99)), (Duration::from_micros(112), Duration::from_micros(112)));
        assert_eq!((h.quantile(1.0), h.max(), h.count()), (Duration::from_micros(5000), Duration::from_micros(5000), 100));
        h.record(Duration::from_secs(3600), 1);
        assert_eq!(h.max(), Duration::from_secs(3600));
    }
}
