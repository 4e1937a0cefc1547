#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| towpath_fuzz_parsers::token(data));
