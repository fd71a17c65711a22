//! `wasi:http`: the API with the pod's own token, and taking of what the host holds for requests.

use std::fs;
use std::hint;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::poll::poll;

const API: &str = "kubernetes.default.svc";

/// A request to the API as the pod's service account: the status and the answer.
pub fn call(method: &str, path: &str, body: &str) {
    println!("{}", ask(method, path, body));
}

fn token() -> String {
    fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/token").unwrap_or_default()
}

fn ask(method: &str, path: &str, body: &str) -> String {
    let fields = Fields::new();
    let set = |name: &str, value: &str| fields.set(name, &[value.as_bytes().to_vec()]).unwrap();
    set("authorization", &format!("Bearer {}", token()));
    set(
        "content-type",
        if method == "PATCH" {
            "application/json-patch+json"
        } else {
            "application/json"
        },
    );
    // Somebody else's name, as a proxy in front of the API could set it.
    set("impersonate-user", "system:admin");
    set("impersonate-group", "system:masters");
    if method != "IMPERSONATE" {
        fields.delete("impersonate-user").unwrap();
        fields.delete("impersonate-group").unwrap();
    }
    let request = OutgoingRequest::new(fields);
    let method = match method {
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        _ => Method::Get,
    };
    request.set_method(&method).unwrap();
    request.set_scheme(Some(&Scheme::Https)).unwrap();
    request.set_authority(Some(API)).unwrap();
    request.set_path_with_query(Some(path)).unwrap();
    let out = request.body().unwrap();
    let answer = match handle(request, None) {
        Ok(answer) => answer,
        Err(error) => return format!("{error:?}"),
    };
    let stream = out.write().unwrap();
    for piece in body.as_bytes().chunks(4096) {
        let _ = stream.blocking_write_and_flush(piece);
    }
    drop(stream);
    let _ = OutgoingBody::finish(out, None);
    answer.subscribe().block();
    let response = match answer.get().unwrap().unwrap() {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    let status = response.status();
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut bytes = Vec::new();
    while let Ok(part) = stream.blocking_read(4096) {
        bytes.extend(part);
    }
    format!("{status} {}", String::from_utf8_lossy(&bytes))
}

/// Keeps requests whose method has a name of nearly two megabytes.
pub fn methods() {
    let name = "M".repeat((2 << 20) - 4096);
    let mut held = Vec::new();
    loop {
        let request = OutgoingRequest::new(Fields::new());
        let _ = request.set_method(&Method::Other(name.clone()));
        let _ = request.set_path_with_query(Some(&format!("/{}", "p".repeat(60_000))));
        let _ = request.set_authority(Some(&"a".repeat(60_000)));
        held.push(request);
    }
}

/// Keeps headers that are as long as they may be.
pub fn fields() {
    let value = vec![b'x'; 120 << 10];
    let mut held = Vec::new();
    loop {
        let fields = Fields::new();
        let _ = fields.append("x", &value);
        held.push(fields.clone());
        held.push(fields);
    }
}

/// Keeps bodies that are written and never sent.
pub fn bodies() {
    let mut held = Vec::new();
    loop {
        let request = OutgoingRequest::new(Fields::new());
        let body = request.body().unwrap();
        let stream = body.write().unwrap();
        if let Ok(room) = stream.check_write() {
            let _ = stream.write(&vec![b'x'; (room as usize).min(1 << 20)]);
        }
        held.push((stream, body, request));
    }
}

/// Makes messages with headers and a body, and lets each go before the next.
pub fn messages(count: usize) {
    for number in 0..count {
        let fields = Fields::new();
        fields.append("x-number", number.to_string().as_bytes()).unwrap();
        fields.append("x", &vec![b'x'; 64 << 10]).unwrap();
        let copy = fields.clone();
        let request = OutgoingRequest::new(fields);
        request.set_path_with_query(Some("/path")).unwrap();
        hint::black_box(request.headers().entries());
        let body = request.body().unwrap();
        match number % 2 {
            0 => drop(body),
            _ => OutgoingBody::finish(body, Some(copy)).unwrap(),
        }
    }
    println!("made");
}

/// Sends one request after the other, and keeps the heads of the answers without their bodies.
pub fn kept_answers(authority: &str) {
    let mut held = Vec::new();
    loop {
        let request = OutgoingRequest::new(Fields::new());
        request.set_authority(Some(authority)).unwrap();
        request.set_scheme(Some(&Scheme::Http)).unwrap();
        request.set_path_with_query(Some("/")).unwrap();
        let future = handle(request, None).unwrap();
        future.subscribe().block();
        let answer = future.get().unwrap().unwrap().unwrap();
        drop(answer.consume());
        held.push(answer);
    }
}

/// Sends as many requests as there may be, and never reads an answer.
pub fn requests(authority: &str) {
    let mut held = Vec::new();
    let mut refused = 0_u64;
    loop {
        let request = OutgoingRequest::new(Fields::new());
        request.set_authority(Some(authority)).unwrap();
        request.set_scheme(Some(&Scheme::Http)).unwrap();
        request.set_path_with_query(Some("/")).unwrap();
        match handle(request, None) {
            Ok(answer) => held.push(answer),
            Err(_) => refused += 1,
        }
        if held.len() > 500 {
            // What was refused says so in its answer.
            refused += held
                .iter()
                .filter(|answer| matches!(answer.get(), Some(Ok(Err(_)))))
                .count() as u64;
            println!("{refused} refused");
            held.clear();
        }
    }
}

/// Sends so many requests to somebody who never answers, and says how many were refused once no more than `few` are open.
pub fn requests_held(authority: &str, count: usize, few: usize) {
    let send = |_| {
        let request = OutgoingRequest::new(Fields::new());
        request.set_authority(Some(authority)).unwrap();
        request.set_scheme(Some(&Scheme::Http)).unwrap();
        request.set_path_with_query(Some("/")).unwrap();
        handle(request, None).unwrap()
    };
    let mut open: Vec<_> = (0..count).map(send).collect();
    let mut refused = Vec::new();
    while open.len() > few {
        let pollables: Vec<_> = open.iter().map(|answer| answer.subscribe()).collect();
        poll(&pollables.iter().collect::<Vec<_>>());
        drop(pollables);
        open.retain(|answer| match answer.get() {
            None => true,
            Some(answer) => {
                refused.push(format!("{:?}", answer.unwrap().map(|_| ())));
                false
            }
        });
    }
    refused.dedup();
    println!("{} under way, the others {refused:?}", open.len());
}

/// Asks the API without a pause for what it may not have, and for what it may.
pub fn api_flood() {
    loop {
        hint::black_box(ask("GET", "/api/v1/secrets", ""));
        hint::black_box(ask("GET", "/version", ""));
        hint::black_box(ask(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            r#"{"spec":{"namespace":"default"}}"#,
        ));
    }
}
