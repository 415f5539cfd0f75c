//! Layers and archives may be compressed; which way, their first bytes say.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// What is read at once of the compressed bytes.
const BUFFER: usize = 128 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Windows of zstd up to 128 MiB: what its own program accepts.
const WINDOW_LOG: u32 = 27;

/// The tar in a stream of bytes that may be compressed with gzip or zstd. Blocks, also here, for the first bytes.
pub(crate) fn decompress(mut reader: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::with_capacity(ZSTD.len());
    reader.by_ref().take(ZSTD.len() as u64).read_to_end(&mut start)?;
    let (gzip, zstd) = (start.starts_with(GZIP), start.starts_with(ZSTD));
    let whole = Cursor::new(start).chain(reader);
    if gzip {
        return Ok(Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole))));
    }
    if zstd {
        let mut decoder = zstd::Decoder::new(whole)?;
        decoder.window_log_max(WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(whole))
}

/// Whether bytes that start so are compressed.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(GZIP) || start.starts_with(ZSTD)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompress(Cursor::new(bytes))?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory takes it")
    }

    #[test]
    fn every_kind_is_read() {
        let text = b"some text".repeat(1000);
        let twice = [gzip(&text[..5000]), gzip(&text[5000..])].concat();
        let zstd = zstd::encode_all(&text[..], 1).expect("memory takes it");
        let frames = [zstd::encode_all(&text[..10], 1), zstd::encode_all(&text[10..], 1)];
        let frames = frames.map(|frame| frame.expect("memory takes it")).concat();
        for bytes in [text.clone(), gzip(&text), twice, zstd, frames] {
            assert_eq!(read(bytes).expect("readable"), text);
        }
        assert_eq!(read(Vec::new()).expect("readable"), b"");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let text = b"some text".repeat(1000);
        for bytes in [gzip(&text), zstd::encode_all(&text[..], 1).expect("memory takes it")] {
            assert!(read(bytes[..bytes.len() - 3].to_vec()).is_err());
        }
    }
}
