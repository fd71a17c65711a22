//! `once`: a `wasi:http` component of which an instance answers one request, as those of a JavaScript engine do. It keeps what it
//! should answer the next ones with, and comes back.

use std::sync::atomic::{AtomicBool, Ordering};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Once;

static USED: AtomicBool = AtomicBool::new(false);

impl Guest for Once {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        if path == "/never" || USED.swap(true, Ordering::Relaxed) {
            println!("once: no answer to {path}");
            std::mem::forget(out);
            return;
        }
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let _ = OutgoingBody::finish(body, None);
    }
}

wasip2::http::proxy::export!(Once);
