//! Any bytes at all, compressed or not. Checksums of headers are put right, so that not only the first is ever read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        // Whatever says it is a header of POSIX or GNU.
        if &block[257..262] == b"ustar" {
            seal(block);
        }
    }
    tidegate_fuzz::layer(bytes);
});

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
