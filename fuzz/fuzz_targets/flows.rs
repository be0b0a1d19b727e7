#![no_main]

#[path = "../targets/flows.rs"]
mod flows;

libfuzzer_sys::fuzz_target!(|data: &[u8]| flows::run(data));
