#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway_fuzz::forwarded::{self, Input};

fuzz_target!(|input: Input| forwarded::look(&input));
