//! The body of a request, bounded while it arrives.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt as _;

/// What bodies are accepted: how large, of which media types, and how slowly they may come.
///
/// Everything is checked before a signature or a schema is looked at. The size is counted while the
/// body arrives, whatever `Content-Length` says, and nothing is read beyond the limit. The bytes
/// stay as they are, for the signature: a body with a `Content-Encoding` is refused.
#[derive(Clone, Debug)]
pub struct BodyRules {
    max_bytes: usize,
    media_types: Vec<String>,
    timeout: Duration,
}

impl Default for BodyRules {
    /// JSON of at most 1 MiB that arrives within 10 seconds.
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024,
            media_types: vec!["application/json".to_owned()],
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than allowed; the limit in bytes.
    TooLarge(usize),
    /// Its media type, charset or content encoding is not accepted; what is.
    MediaType(Vec<String>),
    /// It did not arrive in time; the limit.
    TooSlow(Duration),
    /// The connection broke, or the framing is wrong.
    Broken,
}

/// How much room is made on the word of a `Content-Length`.
const MAX_RESERVE: usize = 64 * 1024;

impl BodyRules {
    /// The largest body, in bytes. 1 MiB by default.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The media types that are accepted, without parameters. `application/json` by default.
    #[must_use]
    pub fn with_media_types<T: Into<String>>(
        mut self,
        media_types: impl IntoIterator<Item = T>,
    ) -> Self {
        self.media_types = media_types.into_iter().map(Into::into).collect();
        self
    }

    /// How long the body may take to arrive. 10 seconds by default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks the headers, then reads the body.
    ///
    /// # Errors
    ///
    /// [`BodyError`]: the media type is not accepted, the body is too large, too slow or broken.
    ///
    /// # Cancel safety
    ///
    /// What was read is lost, and with it the request.
    pub async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<Bytes, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.check_media_type(headers)?;
        match tokio::time::timeout(self.timeout, self.collect(body)).await {
            Ok(result) => result,
            Err(_) => Err(BodyError::TooSlow(self.timeout)),
        }
    }

    fn check_media_type(&self, headers: &HeaderMap) -> Result<(), BodyError> {
        let refused = || BodyError::MediaType(self.media_types.clone());
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(refused());
        };
        let value = value.to_str().map_err(|_| refused())?;
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let is_known = |known: &String| known.eq_ignore_ascii_case(essence.trim());
        let is_utf8 = |charset: &str| {
            let charset = charset.trim().trim_matches('"');
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
        };
        let charset = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        let is_plain = headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if self.media_types.iter().any(is_known) && charset.is_none_or(is_utf8) && is_plain {
            Ok(())
        } else {
            Err(refused())
        }
    }

    async fn collect<B>(&self, mut body: B) -> Result<Bytes, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let max = self.max_bytes;
        let declared = body.size_hint().lower();
        if declared > max as u64 {
            return Err(BodyError::TooLarge(max));
        }
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyError::Broken)?;
            let Ok(data) = frame.into_data() else {
                continue; // trailers
            };
            if data.len() > max - first.len() - whole.len() {
                return Err(BodyError::TooLarge(max));
            }
            // Most bodies come in one frame, which needs no copy.
            if whole.is_empty() && first.is_empty() {
                first = data;
            } else {
                if !first.is_empty() {
                    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
                    whole.reserve(declared.min(MAX_RESERVE).max(first.len() + data.len()));
                    whole.extend_from_slice(&std::mem::take(&mut first));
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok(if whole.is_empty() {
            first
        } else {
            whole.freeze()
        })
    }
}

impl BodyError {
    /// The kind in `snake_case`, for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too_large",
            Self::MediaType(_) => "media_type",
            Self::TooSlow(_) => "too_slow",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(limit) => write!(f, "the body is larger than {limit} bytes"),
            Self::MediaType(accepted) => write!(
                f,
                "send {} in UTF-8 and without a content encoding",
                accepted.join(" or ")
            ),
            Self::TooSlow(limit) => write!(f, "the body did not arrive within {limit:?}"),
            Self::Broken => f.write_str("the connection broke while the body arrived"),
        }
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body::{Frame, SizeHint};
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn typed(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    /// A body of these chunks, which says nothing of its size; then `end`.
    struct Chunks {
        chunks: Vec<Bytes>,
        end: Poll<Option<&'static str>>,
        read: usize,
        hint: SizeHint,
    }

    fn chunks(chunks: &[&'static str]) -> Chunks {
        Chunks {
            chunks: chunks
                .iter()
                .rev()
                .map(|c| Bytes::from_static(c.as_bytes()))
                .collect(),
            end: Poll::Ready(None),
            read: 0,
            hint: SizeHint::default(),
        }
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.chunks.pop() {
                Some(chunk) => {
                    self.read += 1;
                    Poll::Ready(Some(Ok(Frame::data(chunk))))
                }
                None => self.end.map(|end| end.map(Err)),
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.hint
        }
    }

    async fn read(rules: &BodyRules, body: &mut Chunks) -> Result<Bytes, BodyError> {
        rules.read(&typed("application/json"), body).await
    }

    #[tokio::test]
    async fn the_bytes_stay_as_they_are_whatever_the_chunks() {
        let rules = BodyRules::default();
        for (parts, whole) in [
            (&[][..], ""),
            (&["one"], "one"),
            (&["", "one", ""], "one"),
            (&["{\"a\"", ":", "", " 1}\n"], "{\"a\": 1}\n"),
        ] {
            assert_eq!(read(&rules, &mut chunks(parts)).await.unwrap(), whole);
        }
    }

    #[tokio::test]
    async fn the_limit_is_inclusive_and_nothing_is_read_beyond_it() {
        let rules = BodyRules::default().with_max_bytes(6);
        assert_eq!(
            read(&rules, &mut chunks(&["abc", "def"])).await.unwrap(),
            "abcdef"
        );
        let mut body = chunks(&["abc", "def", "g", "never"]);
        assert_eq!(read(&rules, &mut body).await, Err(BodyError::TooLarge(6)));
        assert_eq!(body.read, 3);
        let mut body = chunks(&["abcdefg", "never"]);
        assert_eq!(read(&rules, &mut body).await, Err(BodyError::TooLarge(6)));
    }

    #[tokio::test]
    async fn a_declared_size_beyond_the_limit_is_refused_unread() {
        let rules = BodyRules::default().with_max_bytes(6);
        let mut body = chunks(&["abc"]);
        body.hint = SizeHint::with_exact(7);
        assert_eq!(read(&rules, &mut body).await, Err(BodyError::TooLarge(6)));
        assert_eq!(body.read, 0);
        let full = Full::new(Bytes::from_static(b"abcdefg"));
        let result = rules.read(&typed("application/json"), full).await;
        assert_eq!(result, Err(BodyError::TooLarge(6)));
    }

    #[tokio::test]
    async fn a_broken_body_is_not_taken_for_a_short_one() {
        let mut body = chunks(&["abc"]);
        body.end = Poll::Ready(Some("connection reset"));
        let result = read(&BodyRules::default(), &mut body).await;
        assert_eq!(result, Err(BodyError::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let mut body = chunks(&["abc"]);
        body.end = Poll::Pending;
        let rules = BodyRules::default();
        let started = tokio::time::Instant::now();
        let expected = Err(BodyError::TooSlow(Duration::from_secs(10)));
        assert_eq!(read(&rules, &mut body).await, expected);
        assert_eq!(started.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn trailers_are_no_data() {
        let frames = [
            Frame::data(Bytes::from_static(b"abc")),
            Frame::trailers(HeaderMap::new()),
        ];
        let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
        let result = BodyRules::default()
            .read(&typed("application/json"), body)
            .await;
        assert_eq!(result.unwrap(), "abc");
    }

    #[test]
    fn media_types_are_compared_as_such() {
        let rules = BodyRules::default()
            .with_media_types(["application/json", "application/x-www-form-urlencoded"]);
        for accepted in [
            "application/json",
            "Application/JSON ; Charset=\"UTF-8\"",
            "application/x-www-form-urlencoded",
            "application/json; version=2; charset=us-ascii",
        ] {
            assert_eq!(
                rules.check_media_type(&typed(accepted)),
                Ok(()),
                "{accepted}"
            );
        }
        for refused in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=utf-16",
            "application/json, text/plain",
        ] {
            assert!(
                rules.check_media_type(&typed(refused)).is_err(),
                "{refused}"
            );
        }
        assert!(rules.check_media_type(&HeaderMap::new()).is_err());
        let mut twice = typed("application/json");
        twice.append(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert!(rules.check_media_type(&twice).is_err());
        let mut encoded = typed("application/json");
        encoded.insert(header::CONTENT_ENCODING, "identity".parse().unwrap());
        assert!(rules.check_media_type(&encoded).is_ok());
        encoded.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let error = rules.check_media_type(&encoded).unwrap_err();
        assert!(error.to_string().contains("content encoding"), "{error}");
    }
}
