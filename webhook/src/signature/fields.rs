//! Text fields of a form, urlencoded or multipart.

use std::borrow::Cow;

use memchr::memmem;

use super::{Place, SignatureError};

/// The longest field that is read, in bytes.
const MAX_FIELD: usize = 4 * 1024;

/// The fields `names` of an urlencoded form.
pub(super) fn urlencoded<const N: usize>(
    body: &[u8],
    names: [&'static str; N],
) -> Result<[Option<String>; N], SignatureError> {
    let mut found = Found::new(names);
    for (name, value) in form_urlencoded::parse(body) {
        found.add(name.as_bytes(), || Some(value))?;
    }
    Ok(found.values)
}

/// The fields `names` of a multipart form whose parts are divided by `boundary`; files are skipped.
pub(super) fn multipart<const N: usize>(
    body: &[u8],
    boundary: &str,
    names: [&'static str; N],
) -> Result<[Option<String>; N], SignatureError> {
    let broken = || Place::Body.malformed("is not the multipart form that its content type says");
    // The first delimiter may stand at the very start, all others follow a line break.
    let delimiter = format!("\r\n--{boundary}");
    let body = match body.strip_prefix(&delimiter.as_bytes()[2..]) {
        Some(rest) => rest,
        None => {
            let start = memmem::find(body, delimiter.as_bytes()).ok_or_else(broken)?;
            &body[start + delimiter.len()..]
        }
    };
    let finder = memmem::Finder::new(&delimiter);
    let mut found = Found::new(names);
    let mut rest = body;
    while !rest.starts_with(b"--") {
        let end = finder.find(rest).ok_or_else(broken)?;
        let part = &rest[..end];
        let head_end = memmem::find(part, b"\r\n\r\n").ok_or_else(broken)?;
        if let Some(name) = field_name(&part[..head_end]) {
            let value = &part[head_end + 4..];
            found.add(name, || std::str::from_utf8(value).ok().map(Cow::Borrowed))?;
        }
        rest = &rest[end + delimiter.len()..];
    }
    Ok(found.values)
}

/// The boundary in `multipart/form-data; boundary=..`.
pub(super) fn boundary(parameters: &str) -> Option<&str> {
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim())
    })?;
    let value = value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value);
    // RFC 2046 allows 1 to 70 characters.
    (1..=70).contains(&value.len()).then_some(value)
}

/// The name in `Content-Disposition: form-data; name="..."`, unless it is a file.
fn field_name(head: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"; name=\"";
    let line = head.split(|b| *b == b'\n').find(|line| {
        line.get(..20)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"content-disposition:"))
    })?;
    if memmem::find(line, b"filename").is_some() {
        return None;
    }
    let start = memmem::find(line, NAME)? + NAME.len();
    let end = memchr::memchr(b'"', &line[start..])?;
    Some(&line[start..start + end])
}

struct Found<const N: usize> {
    names: [&'static str; N],
    values: [Option<String>; N],
}

impl<const N: usize> Found<N> {
    fn new(names: [&'static str; N]) -> Self {
        Self {
            names,
            values: [const { None }; N],
        }
    }

    fn add<'v>(
        &mut self,
        name: &[u8],
        value: impl FnOnce() -> Option<Cow<'v, str>>,
    ) -> Result<(), SignatureError> {
        let Some(i) = self
            .names
            .iter()
            .position(|wanted| wanted.as_bytes() == name)
        else {
            return Ok(());
        };
        let place = Place::Field(self.names[i]);
        if self.values[i].is_some() {
            return Err(SignatureError::Duplicate(place));
        }
        let value = value().ok_or_else(|| place.clone().malformed("is not UTF-8"))?;
        if value.len() > MAX_FIELD {
            return Err(place.malformed("is longer than 4096 bytes"));
        }
        self.values[i] = Some(value.into_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["token", "signature"];

    #[test]
    fn urlencoded_fields_are_decoded_and_counted_once() {
        let body = b"recipient=a%40b.example&token=x%2By+z&stripped-text=%FF";
        assert_eq!(
            urlencoded(body, NAMES),
            Ok([Some("x+y z".to_owned()), None])
        );
        assert_eq!(
            urlencoded(b"token=a&token=b", NAMES),
            Err(SignatureError::Duplicate(Place::Field("token")))
        );
        assert!(urlencoded(format!("token={}", "a".repeat(5_000)).as_bytes(), NAMES).is_err());
    }

    fn form(boundary: &str) -> Vec<u8> {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nabc\r\n\
             --{boundary}\r\ncontent-disposition: form-data; name=\"signature\"; \
             filename=\"signature\"\r\nContent-Type: image/png\r\n\r\nfile\r\n\r\nfile\r\n\
             --{boundary}\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; \
             name=\"signature\"\r\n\r\n\r\n--{boundary}--\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn multipart_fields_are_found_beside_files() {
        let expected = Ok([Some("abc".to_owned()), Some(String::new())]);
        assert_eq!(multipart(&form("xYz"), "xYz", NAMES), expected);
        let preamble = [b"preamble\r\n".as_slice(), &form("xYz")].concat();
        assert_eq!(multipart(&preamble, "xYz", NAMES), expected);
    }

    #[test]
    fn a_broken_multipart_form_is_refused() {
        let whole = form("xYz");
        for end in 0..whole.len() - 4 {
            assert!(
                multipart(&whole[..end], "xYz", NAMES).is_err(),
                "cut at {end}"
            );
        }
        assert!(multipart(&whole, "other", NAMES).is_err());
        let latin1 = b"--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n\xe9\r\n--b--";
        assert!(multipart(latin1, "b", NAMES).is_err());
    }

    #[test]
    fn the_boundary_is_read_quoted_or_not() {
        assert_eq!(boundary(" boundary=abc"), Some("abc"));
        assert_eq!(boundary("charset=utf-8; BOUNDARY=\"a b\""), Some("a b"));
        for wrong in ["", "boundary", "boundary=", "boundary=\"\"", "charset=x"] {
            assert_eq!(boundary(wrong), None, "{wrong}");
        }
    }
}
