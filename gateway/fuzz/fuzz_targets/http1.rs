#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway_fuzz::http1;

fuzz_target!(|bytes: &[u8]| http1::look(bytes));
