#![no_main]

#[path = "../targets/tls.rs"]
mod tls;

libfuzzer_sys::fuzz_target!(|data: &[u8]| tls::run(data));
