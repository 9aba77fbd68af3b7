#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| everywire_fuzz::mqtt_packet(data));
