//! What messages of `wasi:http` cost the host, charged to the container.
//!
//! The library holds what a guest makes of a message, headers and bodies and names, until the message is sent or dropped, and
//! bounds each but not all of them: four thousand requests whose method has a name of two megabytes are eight gigabytes. So
//! each call that makes one of these objects, makes it larger or lets it go passes here first; the work is the library's.
//! What is on its way to somebody is not the guest's any more: that has limits of its own. An answer is the guest's once it was
//! taken, for its request is over then, and so is the limit of requests.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, FieldName, FieldValue, Fields, FutureIncomingResponse, HeaderError, Host as _, HostFields,
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingBody, HostOutgoingRequest, HostOutgoingResponse,
    HostResponseOutparam, IncomingResponse, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions,
    ResponseOutparam, Trailers,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView, WasiHttpView as _};

use crate::host::Host;
use crate::limits;
use crate::memory::{Charge, MemoryAccount, OutOfMemory};

/// What an object costs beside its text, and each header beside its name and value: places in tables.
const OBJECT_BYTES: usize = 256;
const HEADER_BYTES: usize = 64;

/// The charges of one instance's objects, by their index in the table.
#[derive(Default)]
pub(crate) struct Weights(HashMap<u32, Charge>);

impl Weights {
    /// An object has become so heavy.
    fn set(&mut self, account: &Arc<MemoryAccount>, index: u32, bytes: usize) -> Result<(), OutOfMemory> {
        // Given back first: what was there may be this object, or one that is gone.
        self.0.remove(&index);
        self.0.insert(index, Charge::take(account, bytes)?);
        Ok(())
    }

    fn remove(&mut self, index: u32) {
        self.0.remove(&index);
    }
}

fn of_fields(fields: &FieldMap) -> usize {
    let header =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + HEADER_BYTES;
    OBJECT_BYTES + fields.iter().map(header).sum::<usize>()
}

fn of_request(request: &wasmtime_wasi_http::p2::types::HostOutgoingRequest) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let method = match &request.method {
        Method::Other(name) => name.len(),
        _ => 0,
    };
    of_fields(&request.headers) + method + text(&request.authority) + text(&request.path_with_query)
}

impl Host {
    fn weigh_fields(&mut self, index: u32) -> wasmtime::Result<()> {
        let bytes = of_fields(self.table.get(&Resource::<FieldMap>::new_borrow(index))?);
        Ok(self.weights.set(&self.account, index, bytes)?)
    }

    fn weigh_request(&mut self, index: u32) -> wasmtime::Result<()> {
        let bytes = of_request(self.table.get(&Resource::<OutgoingRequest>::new_borrow(index))?);
        Ok(self.weights.set(&self.account, index, bytes)?)
    }

    fn weigh_response(&mut self, index: u32) -> wasmtime::Result<()> {
        let response = self.table.get(&Resource::<OutgoingResponse>::new_borrow(index))?;
        let bytes = of_fields(&response.headers);
        Ok(self.weights.set(&self.account, index, bytes)?)
    }

    fn weigh_answer(&mut self, index: u32) -> wasmtime::Result<()> {
        let answer = self.table.get(&Resource::<IncomingResponse>::new_borrow(index))?;
        let bytes = of_fields(&answer.headers);
        Ok(self.weights.set(&self.account, index, bytes)?)
    }

    /// What is written of a body and not sent yet is a piece.
    fn weigh_body(&mut self, body: &Result<Resource<OutgoingBody>, ()>) -> wasmtime::Result<()> {
        if let Ok(body) = body {
            self.weights
                .set(&self.account, body.rep(), OBJECT_BYTES + limits::TRANSFER_BYTES)?;
        }
        Ok(())
    }
}

type Cx<'a> = StoreContextMut<'a, Host>;

/// Puts our functions in the place of the library's, where objects are made, grow and go.
pub(crate) fn add_to_linker(l: &mut Linker<Host>) -> wasmtime::Result<()> {
    l.allow_shadowing(true);
    let mut types = l.instance("wasi:http/types@0.2.12")?;
    fields(&mut types)?;
    requests(&mut types)?;
    responses(&mut types)?;
    answers(&mut types)?;
    bodies(&mut types)?;
    let mut handler = l.instance("wasi:http/outgoing-handler@0.2.12")?;
    handler.func_wrap(
        "handle",
        |mut cx: Cx<'_>, (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>)| {
            let host = cx.data_mut();
            host.weights.remove(request.rep());
            let mut library = host.http();
            let sent: Result<Resource<FutureIncomingResponse>, ErrorCode> = match library.handle(request, options) {
                Ok(answer) => Ok(answer),
                Err(error) => Err(library.convert_error_code(error)?),
            };
            Ok((sent,))
        },
    )?;
    l.allow_shadowing(false);
    Ok(())
}

type Library<'a> = WasiHttpCtxView<'a>;
type Types<'a> = LinkerInstance<'a, Host>;
/// What a method comes to that may say no.
type Outcome<T> = wasmtime::Result<Result<T, ()>>;

/// An object that is dropped gives back what it cost.
fn dropped<T: 'static>(
    types: &mut Types<'_>,
    name: &str,
    drop: fn(&mut Library<'_>, Resource<T>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    types.resource(name, ResourceType::host::<T>(), move |mut cx, index| {
        let host = cx.data_mut();
        host.weights.remove(index);
        drop(&mut host.http(), Resource::new_own(index))
    })
}

/// A message that is made of fields takes over what they cost.
fn made_of_fields<T: Send + 'static>(
    types: &mut Types<'_>,
    name: &str,
    make: fn(&mut Library<'_>, Resource<Fields>) -> wasmtime::Result<Resource<T>>,
    weigh: fn(&mut Host, u32) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    types.func_wrap(name, move |mut cx: Cx<'_>, (headers,): (Resource<Fields>,)| {
        let host = cx.data_mut();
        host.weights.remove(headers.rep());
        let made = make(&mut host.http(), headers)?;
        weigh(host, made.rep())?;
        Ok((made,))
    })
}

/// The headers of a message are objects of their own, which may outlive it.
fn headers_of<T: Send + 'static>(
    types: &mut Types<'_>,
    name: &str,
    headers: fn(&mut Library<'_>, Resource<T>) -> wasmtime::Result<Resource<Fields>>,
) -> wasmtime::Result<()> {
    types.func_wrap(name, move |mut cx: Cx<'_>, (message,): (Resource<T>,)| {
        let host = cx.data_mut();
        let made = headers(&mut host.http(), message)?;
        host.weigh_fields(made.rep())?;
        Ok((made,))
    })
}

/// The body of a message.
fn body_of<T: Send + 'static>(
    types: &mut Types<'_>,
    name: &str,
    body: fn(&mut Library<'_>, Resource<T>) -> Outcome<Resource<OutgoingBody>>,
) -> wasmtime::Result<()> {
    types.func_wrap(name, move |mut cx: Cx<'_>, (message,): (Resource<T>,)| {
        let host = cx.data_mut();
        let made = body(&mut host.http(), message)?;
        host.weigh_body(&made)?;
        Ok((made,))
    })
}

/// A part of a request that is a text.
fn text_of_request<V>(
    types: &mut Types<'_>,
    name: &str,
    set: fn(&mut Library<'_>, Resource<OutgoingRequest>, V) -> Outcome<()>,
) -> wasmtime::Result<()>
where
    V: ComponentType + Lift + Send + 'static,
{
    types.func_wrap(
        name,
        move |mut cx: Cx<'_>, (request, value): (Resource<OutgoingRequest>, V)| {
            let (index, host) = (request.rep(), cx.data_mut());
            let done = set(&mut host.http(), request, value)?;
            host.weigh_request(index)?;
            Ok((done,))
        },
    )
}

fn fields(types: &mut Types<'_>) -> wasmtime::Result<()> {
    dropped::<Fields>(types, "fields", |library, fields| HostFields::drop(library, fields))?;
    types.func_wrap("[constructor]fields", |mut cx: Cx<'_>, (): ()| {
        let made = HostFields::new(&mut cx.data_mut().http())?;
        cx.data_mut().weigh_fields(made.rep())?;
        Ok((made,))
    })?;
    types.func_wrap(
        "[static]fields.from-list",
        |mut cx: Cx<'_>, (list,): (Vec<(FieldName, FieldValue)>,)| {
            let mut library = cx.data_mut().http();
            let made = match HostFields::from_list(&mut library, list) {
                Ok(made) => Ok(made),
                Err(error) => Err(library.convert_header_error(error)?),
            };
            if let Ok(made) = &made {
                cx.data_mut().weigh_fields(made.rep())?;
            }
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]fields.set",
        |mut cx: Cx<'_>, (fields, name, values): (Resource<Fields>, FieldName, Vec<FieldValue>)| {
            let index = fields.rep();
            let mut library = cx.data_mut().http();
            let done: Result<(), HeaderError> = match HostFields::set(&mut library, fields, name, values) {
                Ok(()) => Ok(()),
                Err(error) => Err(library.convert_header_error(error)?),
            };
            cx.data_mut().weigh_fields(index)?;
            Ok((done,))
        },
    )?;
    types.func_wrap(
        "[method]fields.append",
        |mut cx: Cx<'_>, (fields, name, value): (Resource<Fields>, FieldName, FieldValue)| {
            let index = fields.rep();
            let mut library = cx.data_mut().http();
            let done: Result<(), HeaderError> = match HostFields::append(&mut library, fields, name, value) {
                Ok(()) => Ok(()),
                Err(error) => Err(library.convert_header_error(error)?),
            };
            cx.data_mut().weigh_fields(index)?;
            Ok((done,))
        },
    )?;
    types.func_wrap(
        "[method]fields.clone",
        |mut cx: Cx<'_>, (fields,): (Resource<Fields>,)| {
            let made = HostFields::clone(&mut cx.data_mut().http(), fields)?;
            cx.data_mut().weigh_fields(made.rep())?;
            Ok((made,))
        },
    )
}

fn requests(types: &mut Types<'_>) -> wasmtime::Result<()> {
    dropped::<OutgoingRequest>(types, "outgoing-request", |library, request| {
        HostOutgoingRequest::drop(library, request)
    })?;
    made_of_fields(
        types,
        "[constructor]outgoing-request",
        |library, headers| HostOutgoingRequest::new(library, headers),
        Host::weigh_request,
    )?;
    text_of_request::<Method>(
        types,
        "[method]outgoing-request.set-method",
        |library, request, method| library.set_method(request, method),
    )?;
    text_of_request::<Option<String>>(
        types,
        "[method]outgoing-request.set-path-with-query",
        |library, request, path| library.set_path_with_query(request, path),
    )?;
    text_of_request::<Option<String>>(
        types,
        "[method]outgoing-request.set-authority",
        |library, request, authority| library.set_authority(request, authority),
    )?;
    headers_of(types, "[method]outgoing-request.headers", |library, request| {
        HostOutgoingRequest::headers(library, request)
    })?;
    body_of(types, "[method]outgoing-request.body", |library, request| {
        HostOutgoingRequest::body(library, request)
    })
}

fn responses(types: &mut Types<'_>) -> wasmtime::Result<()> {
    dropped::<OutgoingResponse>(types, "outgoing-response", |library, response| {
        HostOutgoingResponse::drop(library, response)
    })?;
    made_of_fields(
        types,
        "[constructor]outgoing-response",
        |library, headers| HostOutgoingResponse::new(library, headers),
        Host::weigh_response,
    )?;
    headers_of(types, "[method]outgoing-response.headers", |library, response| {
        HostOutgoingResponse::headers(library, response)
    })?;
    body_of(types, "[method]outgoing-response.body", |library, response| {
        HostOutgoingResponse::body(library, response)
    })?;
    types.func_wrap(
        "[static]response-outparam.set",
        |mut cx: Cx<'_>,
         (out, answer): (
            Resource<ResponseOutparam>,
            Result<Resource<OutgoingResponse>, ErrorCode>,
        )| {
            let host = cx.data_mut();
            if let Ok(response) = &answer {
                host.weights.remove(response.rep());
            }
            HostResponseOutparam::set(&mut host.http(), out, answer)
        },
    )
}

fn answers(types: &mut Types<'_>) -> wasmtime::Result<()> {
    dropped::<IncomingResponse>(types, "incoming-response", |library, answer| {
        HostIncomingResponse::drop(library, answer)
    })?;
    headers_of(types, "[method]incoming-response.headers", |library, answer| {
        HostIncomingResponse::headers(library, answer)
    })?;
    types.func_wrap(
        "[method]future-incoming-response.get",
        |mut cx: Cx<'_>, (future,): (Resource<FutureIncomingResponse>,)| {
            let host = cx.data_mut();
            let got = HostFutureIncomingResponse::get(&mut host.http(), future)?;
            if let Some(Ok(Ok(answer))) = &got {
                host.weigh_answer(answer.rep())?;
            }
            Ok((got,))
        },
    )
}

fn bodies(types: &mut Types<'_>) -> wasmtime::Result<()> {
    dropped::<OutgoingBody>(types, "outgoing-body", |library, body| {
        HostOutgoingBody::drop(library, body)
    })?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut cx: Cx<'_>, (body, trailers): (Resource<OutgoingBody>, Option<Resource<Trailers>>)| {
            let host = cx.data_mut();
            host.weights.remove(body.rep());
            if let Some(trailers) = &trailers {
                host.weights.remove(trailers.rep());
            }
            let mut library = host.http();
            let done: Result<(), ErrorCode> = match HostOutgoingBody::finish(&mut library, body, trailers) {
                Ok(()) => Ok(()),
                Err(error) => Err(library.convert_error_code(error)?),
            };
            Ok((done,))
        },
    )
}
