#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway_fuzz::config;

fuzz_target!(|bytes: &[u8]| config::look(bytes));
