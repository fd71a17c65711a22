//! What messages of `wasi:http` cost the host, charged to the container.
//!
//! The library holds what a guest makes of a message, headers and bodies and names, until the message is sent or dropped, and
//! bounds each but not all of them: four thousand requests whose method has a name of two megabytes are eight gigabytes. So
//! each call that makes one of these objects, makes it larger or lets it go passes here first; the work is the library's.
//! What is on its way to somebody is not the guest's any more: that has limits of its own.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, FieldName, FieldValue, Fields, FutureIncomingResponse, HeaderError, Host as _, HostFields,
    HostOutgoingBody, HostOutgoingRequest, HostOutgoingResponse, HostResponseOutparam, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Trailers,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

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

fn fields(types: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    types.resource("fields", ResourceType::host::<Fields>(), |mut cx, index| {
        let host = cx.data_mut();
        host.weights.remove(index);
        HostFields::drop(&mut host.http(), Resource::new_own(index))
    })?;
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

fn requests(types: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    types.resource(
        "outgoing-request",
        ResourceType::host::<OutgoingRequest>(),
        |mut cx, index| {
            let host = cx.data_mut();
            host.weights.remove(index);
            HostOutgoingRequest::drop(&mut host.http(), Resource::new_own(index))
        },
    )?;
    types.func_wrap(
        "[constructor]outgoing-request",
        |mut cx: Cx<'_>, (headers,): (Resource<Fields>,)| {
            let host = cx.data_mut();
            host.weights.remove(headers.rep());
            let made = HostOutgoingRequest::new(&mut host.http(), headers)?;
            host.weigh_request(made.rep())?;
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut cx: Cx<'_>, (request, method): (Resource<OutgoingRequest>, Method)| {
            let index = request.rep();
            let done = HostOutgoingRequest::set_method(&mut cx.data_mut().http(), request, method)?;
            cx.data_mut().weigh_request(index)?;
            Ok((done,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut cx: Cx<'_>, (request, path): (Resource<OutgoingRequest>, Option<String>)| {
            let index = request.rep();
            let done = HostOutgoingRequest::set_path_with_query(&mut cx.data_mut().http(), request, path)?;
            cx.data_mut().weigh_request(index)?;
            Ok((done,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut cx: Cx<'_>, (request, authority): (Resource<OutgoingRequest>, Option<String>)| {
            let index = request.rep();
            let done = HostOutgoingRequest::set_authority(&mut cx.data_mut().http(), request, authority)?;
            cx.data_mut().weigh_request(index)?;
            Ok((done,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.headers",
        |mut cx: Cx<'_>, (request,): (Resource<OutgoingRequest>,)| {
            let made = HostOutgoingRequest::headers(&mut cx.data_mut().http(), request)?;
            // They may outlive the request.
            cx.data_mut().weigh_fields(made.rep())?;
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut cx: Cx<'_>, (request,): (Resource<OutgoingRequest>,)| {
            let made = HostOutgoingRequest::body(&mut cx.data_mut().http(), request)?;
            cx.data_mut().weigh_body(&made)?;
            Ok((made,))
        },
    )
}

fn responses(types: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    types.resource(
        "outgoing-response",
        ResourceType::host::<OutgoingResponse>(),
        |mut cx, index| {
            let host = cx.data_mut();
            host.weights.remove(index);
            HostOutgoingResponse::drop(&mut host.http(), Resource::new_own(index))
        },
    )?;
    types.func_wrap(
        "[constructor]outgoing-response",
        |mut cx: Cx<'_>, (headers,): (Resource<Fields>,)| {
            let host = cx.data_mut();
            host.weights.remove(headers.rep());
            let made = HostOutgoingResponse::new(&mut host.http(), headers)?;
            host.weigh_response(made.rep())?;
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.headers",
        |mut cx: Cx<'_>, (response,): (Resource<OutgoingResponse>,)| {
            let made = HostOutgoingResponse::headers(&mut cx.data_mut().http(), response)?;
            cx.data_mut().weigh_fields(made.rep())?;
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut cx: Cx<'_>, (response,): (Resource<OutgoingResponse>,)| {
            let made = HostOutgoingResponse::body(&mut cx.data_mut().http(), response)?;
            cx.data_mut().weigh_body(&made)?;
            Ok((made,))
        },
    )?;
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

fn bodies(types: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    types.resource(
        "outgoing-body",
        ResourceType::host::<OutgoingBody>(),
        |mut cx, index| {
            let host = cx.data_mut();
            host.weights.remove(index);
            HostOutgoingBody::drop(&mut host.http(), Resource::new_own(index))
        },
    )?;
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
