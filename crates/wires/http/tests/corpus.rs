//! Replays the fuzz corpus on stable, each file as it is and with every byte changed to a few that hurt.

#[path = "../../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use the same file as a library")]
mod targets;

#[cfg(test)]
mod replay {
    use std::path::Path;

    use super::targets;

    /// Bytes at which parsers stumble.
    const NASTY: &[u8] = b"\0\r\n /+\xff";

    fn replay(name: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/corpus").join(name);
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            run(&data);
            for at in 0..data.len() {
                let mut changed = data.clone();
                for nasty in NASTY {
                    changed[at] = *nasty;
                    run(&changed);
                }
                run(&data[..at]);
            }
            files += 1;
        }
        assert!(files > 0, "the corpus of {name} is empty");
    }

    #[test]
    fn http_head() {
        replay("http_head", targets::http_head);
    }

    #[test]
    fn http_body() {
        replay("http_body", targets::http_body);
    }

    #[test]
    fn ws_frame() {
        replay("ws_frame", targets::ws_frame);
    }

    #[test]
    fn native_frame() {
        replay("native_frame", targets::native_frame);
    }

    #[test]
    fn json_frame() {
        replay("json_frame", targets::json_frame);
    }

    #[test]
    fn token() {
        replay("token", targets::token);
    }

    #[test]
    fn cursor() {
        replay("cursor", targets::cursor);
    }

    #[test]
    fn topic_filter() {
        replay("topic_filter", targets::topic_filter);
    }

    #[test]
    fn record() {
        replay("record", targets::record);
    }

    #[test]
    fn mqtt_packet() {
        replay("mqtt_packet", targets::mqtt_packet);
    }

    #[test]
    fn mqtt_session() {
        replay("mqtt_session", targets::mqtt_session);
    }
}
