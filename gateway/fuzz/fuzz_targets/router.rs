#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway_fuzz::router::{self, Input};

fuzz_target!(|input: Input| router::look(&input));
