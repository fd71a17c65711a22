//! Requests that are made, sent and read, whole or in pieces, and put together wrongly.

use crate::held::Held;
use crate::program::Step;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, Scheme,
};

pub fn step(held: &mut Held, p: &mut Step) {
    match p.below(24) {
        0..3 => fields(held, p),
        3..5 => field(held, p),
        5..7 => request(held, p),
        7..10 => describe(held, p),
        10 => body(held, p),
        11 | 12 => send(held, p),
        13 => fetch(held, p),
        14..17 => answer(held, p),
        17 | 18 => receive(held, p),
        19 => finish(held, p),
        20 => reply(held, p),
        21 => options(held, p),
        22 => subscribe(held, p),
        _ => give_up(held, p),
    }
}

fn fields(held: &mut Held, p: &mut Step) {
    if p.flag() {
        held.fields.put(Fields::new());
        return;
    }
    let list: Vec<_> = (0..p.below(5)).map(|_| (p.text(), p.bytes())).collect();
    let answer = Fields::from_list(&list);
    if let Some(fields) = held.good(answer) {
        held.fields.put(fields);
    }
}

fn field(held: &mut Held, p: &mut Step) {
    let Some(fields) = held.fields.pick(p) else { return };
    let name = p.text();
    let answer = match p.below(7) {
        0 => Ok(drop(fields.get(&name))),
        1 => Ok(drop((fields.has(&name), fields.entries()))),
        2 => fields.set(&name, &[p.bytes(), p.bytes()]),
        3 => fields.delete(&name),
        4 => {
            let copy = fields.clone();
            return held.fields.put(copy);
        }
        _ => fields.append(&name, &p.bytes()),
    };
    held.good(answer);
}

fn request(held: &mut Held, p: &mut Step) {
    let fields = held.fields.take(p).unwrap_or_else(Fields::new);
    held.requests.put(OutgoingRequest::new(fields));
}

fn scheme(p: &mut Step) -> Scheme {
    match p.below(8) {
        0..6 => Scheme::Http,
        6 => Scheme::Https,
        _ => Scheme::Other(p.text()),
    }
}

fn describe(held: &mut Held, p: &mut Step) {
    let Some(request) = held.requests.pick(p) else { return };
    let answer = match p.below(7) {
        0 => request.set_method(&match p.below(5) {
            0 => Method::Get,
            1 => Method::Post,
            2 => Method::Connect,
            3 => Method::Trace,
            _ => Method::Other(p.text()),
        }),
        1 => request.set_scheme(Some(&scheme(p))),
        2 => request.set_authority(Some(&p.text())),
        3 => request.set_path_with_query(Some(&p.path())),
        4 => request.set_authority(Some("10.96.0.1:80")),
        5 => {
            let headers = request.headers();
            return held.fields.put(headers);
        }
        _ => {
            let told = (
                request.method(),
                request.scheme(),
                request.authority(),
                request.path_with_query(),
            );
            held.good += u64::from(told.1.is_some() || told.2.is_some() || told.3.is_some());
            return;
        }
    };
    held.good(answer);
}

fn body(held: &mut Held, p: &mut Step) {
    let Some(request) = held.requests.pick(p) else { return };
    let answer = request.body();
    if let Some(body) = held.good(answer) {
        held.outgoing_bodies.put(body);
    }
    let Some(body) = held.outgoing_bodies.pick(p) else {
        return;
    };
    let answer = body.write();
    if let Some(stream) = held.good(answer) {
        held.outputs.put(stream);
    }
}

fn send(held: &mut Held, p: &mut Step) {
    held.free_fields(p);
    let Some(request) = held.requests.take(p) else { return };
    let options = p.flag().then(|| held.options.take(p)).flatten();
    let answer = handle(request, options);
    if let Some(answer) = held.good(answer) {
        held.answers.put(answer);
    }
}

/// A request that is whole, which chance alone would find too seldom.
fn fetch(held: &mut Held, p: &mut Step) {
    let fields = Fields::new();
    let named = fields.append("x", &p.bytes());
    held.good(named);
    let request = OutgoingRequest::new(fields);
    let set = request
        .set_authority(Some("10.96.0.1:80"))
        .and(request.set_scheme(Some(&Scheme::Http)))
        .and(request.set_path_with_query(Some(&format!("/{}", p.byte()))));
    held.good(set);
    if p.flag() {
        let set = request.set_method(&Method::Post).and(request.body());
        if let Some(body) = held.good(set) {
            held.outgoing_bodies.put(body);
        }
    }
    let answer = handle(request, None);
    if let Some(answer) = held.good(answer) {
        held.answers.put(answer);
    }
}

fn answer(held: &mut Held, p: &mut Step) {
    let Some(answer) = held.answers.pick(p) else { return };
    // The third time it is asked for is one too many for the interface, and no reason to end the program.
    let Some(Ok(Ok(response))) = answer.get() else { return };
    held.good += u64::from(response.status() > 0);
    let headers = response.headers();
    held.fields.put(headers);
    held.responses.put(response);
}

fn receive(held: &mut Held, p: &mut Step) {
    let Some(response) = held.responses.pick(p) else { return };
    let answer = response.consume();
    if let Some(body) = held.good(answer) {
        held.incoming_bodies.put(body);
    }
    let Some(body) = held.incoming_bodies.pick(p) else {
        return;
    };
    let answer = body.stream();
    if let Some(stream) = held.good(answer) {
        held.inputs.put(stream);
    }
}

fn finish(held: &mut Held, p: &mut Step) {
    held.free_streams(p);
    if p.flag() {
        if let Some(body) = held.incoming_bodies.take(p) {
            held.trailers.put(IncomingBody::finish(body));
        }
        if let Some(trailers) = held.trailers.pick(p)
            && let Some(Ok(Ok(Some(fields)))) = trailers.get()
        {
            held.fields.put(fields);
        }
        return;
    }
    let trailers = p.flag().then(|| held.fields.take(p)).flatten();
    if let Some(body) = held.outgoing_bodies.take(p) {
        let answer = OutgoingBody::finish(body, trailers);
        held.good(answer);
    }
}

fn reply(held: &mut Held, p: &mut Step) {
    let Some(reply) = held.replies.pick(p) else {
        let fields = held.fields.take(p).unwrap_or_else(Fields::new);
        return held.replies.put(OutgoingResponse::new(fields));
    };
    let answer = reply.set_status_code(p.number() as u16);
    let told = (reply.status_code(), reply.headers());
    let body = reply.body();
    held.good(answer);
    held.good += u64::from(told.0 > 0);
    held.fields.put(told.1);
    if let Some(body) = held.good(body) {
        held.outgoing_bodies.put(body);
    }
}

fn options(held: &mut Held, p: &mut Step) {
    let options = RequestOptions::new();
    let answer = options
        .set_connect_timeout(p.flag().then(|| p.number()))
        .and(options.set_first_byte_timeout(p.flag().then(|| p.number())))
        .and(options.set_between_bytes_timeout(p.flag().then(|| p.number())));
    held.good(answer);
    let told = (
        options.connect_timeout(),
        options.first_byte_timeout(),
        options.between_bytes_timeout(),
    );
    held.good += u64::from(told.0.is_some() || told.1.is_some() || told.2.is_some());
    held.options.put(options);
}

fn subscribe(held: &mut Held, p: &mut Step) {
    let pollable = match p.flag() {
        true => held.answers.pick(p).map(|answer| answer.subscribe()),
        false => held.trailers.pick(p).map(|trailers| trailers.subscribe()),
    };
    if let Some(pollable) = pollable {
        held.pollables.put(pollable);
    }
}

fn give_up(held: &mut Held, p: &mut Step) {
    match p.below(8) {
        0..3 => {
            held.free_streams(p);
            held.free_fields(p);
            drop((held.answers.take(p), held.responses.take(p), held.requests.take(p)));
        }
        3 | 4 => {
            held.free_streams(p);
            drop((
                held.trailers.take(p),
                held.incoming_bodies.take(p),
                held.outgoing_bodies.take(p),
            ));
        }
        _ => drop((held.fields.take(p), held.options.take(p))),
    }
}
