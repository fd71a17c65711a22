//! Large answers, compressed for clients that ask for it.
//!
//! A list is compressed piece by piece as it goes out; it is never there as a whole. Streams that go on, such as watches and logs,
//! are not: each piece of theirs is to arrive at once. What is small goes out as it is: compressing it costs more time than
//! the bytes do.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};

use crate::body::{BodyError, ResponseBody};
use crate::respond::Answer;

/// The shortest answer that is compressed, as in Kubernetes.
const LEAST_BYTES: u64 = 128 * 1024;
/// The fastest level: JSON shrinks to a tenth with it already, and the server's time is worth more than the rest.
const LEVEL: u32 = 1;

/// Whether a client takes gzip.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0));
        name.eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Compresses an answer that is long enough and has a known length.
pub(crate) fn compress(answer: Answer) -> Answer {
    let long = answer
        .body()
        .size_hint()
        .exact()
        .is_some_and(|length| length >= LEAST_BYTES);
    if !long || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let gzip = Gzip {
        body,
        encoder: Some(GzEncoder::new(Vec::new(), Compression::new(LEVEL))),
    };
    Response::from_parts(parts, ResponseBody::stream(gzip))
}

/// A body on its way through the encoder.
struct Gzip {
    body: ResponseBody,
    /// None when all is said.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl futures::Stream for Gzip {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let this = &mut *self;
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Some(piece) = data(frame) else { continue };
                    if let Err(error) = encoder.write_all(&piece) {
                        return Poll::Ready(Some(Err(error)));
                    }
                    if !encoder.get_ref().is_empty() {
                        return Poll::Ready(Some(Ok(std::mem::take(encoder.get_mut()).into())));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let last = this.encoder.take().map(GzEncoder::finish);
                    return Poll::Ready(last.map(|bytes| bytes.map(Bytes::from)));
                }
            }
        }
    }
}

fn data(frame: Frame<Bytes>) -> Option<Bytes> {
    frame.into_data().ok().filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::respond;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())])
    }

    #[test]
    fn who_wants_it() {
        assert!(is_wanted(&accept("gzip")) && is_wanted(&accept("deflate, gzip;q=0.5")));
        assert!(!is_wanted(&accept("identity")) && !is_wanted(&accept("gzip;q=0")) && !is_wanted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_long_answer_can_be_unpacked_and_a_short_one_is_plain() {
        let text = "lorem ipsum ".repeat(40_000);
        let answer = compress(respond::text(StatusCode::OK, text.clone()));
        assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
        let packed = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(packed.len() * 20 < text.len());
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&*packed)
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, text);
        assert!(
            !compress(respond::text(StatusCode::OK, "short"))
                .headers()
                .contains_key(CONTENT_ENCODING)
        );
    }
}
