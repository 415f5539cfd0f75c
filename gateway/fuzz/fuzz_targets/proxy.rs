#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway_fuzz::proxy;

fuzz_target!(|bytes: &[u8]| proxy::look(bytes));
