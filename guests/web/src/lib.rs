//! `web`: an HTTP service as a `wasi:http` component.
//!
//! It opens no socket. The node accepts the connection, parses HTTP and calls `handle` once for each request;
//! that makes this the smallest service of all. Compare it with `hello`, which speaks HTTP itself.
//!
//! `GREETING` changes the first line of the answer, `HOSTNAME` (the pod's name) is set by the node.

use std::env;
use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Web;

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".into());
        let host = env::var("HOSTNAME").unwrap_or_else(|_| "an unnamed pod".into());
        let text = format!("{greeting} from {host}\nyou asked for {path}\n");
        println!("web: {path}");

        let headers = Fields::new();
        headers.append("content-type", b"text/plain").expect("a legal header");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("the body is taken once");
        // From here on the client gets the headers; the body follows as it is written.
        ResponseOutparam::set(out, Ok(response));

        let mut stream = body.write().expect("the stream is taken once");
        // An error means that the client has left. There is nobody to tell.
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.flush();
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

wasip2::http::proxy::export!(Web);
