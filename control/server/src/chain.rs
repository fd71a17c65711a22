//! The chain that every request goes through, from a socket or from a caller in this process:
//!
//! trace, timeout, authenticate, impersonate, authorise, route, decode, normalise, default, prepare, admit, validate, commit, encode.
//!
//! A connection's certificate says who asks, a token in the request, or the holder of a [`crate::LocalService`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use futures::future::BoxFuture;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use tracing::{Instrument, debug_span};

use crate::aggregate::backend::Backend;
use crate::audit::{self, Noted, Received};
use crate::core::{Core, new_uid};
use crate::decode::{self, RequestBody};
use crate::identity::{CertificateOver, Identity};
use crate::query::{ListOptions, Query, WriteOptions};
use crate::registry::Scope;
use crate::registry::delete::Deleted;
use crate::registry::deletion::DeleteOptions;
use crate::registry::hooks::Warnings;
use crate::registry::scale::ScaleSource;
use crate::registry::update::{Part, Patch};
use crate::request::{RequestInfo, ResourcePath};
use crate::respond::{self, Answer};
use crate::{
    admission, aggregate, authn, authz, component_status, compress, discovery, document, logs, negotiate, oidc, proxy,
    review, stream, transcode, usage, view,
};

/// How long a request may take that is not a stream, as in Kubernetes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request on its way through the chain.
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) identity: &'a Identity,
    pub(crate) info: &'a RequestInfo,
    pub(crate) query: &'a Query,
    pub(crate) parts: &'a mut Parts,
    /// Who answers, if it is another server.
    pub(crate) backend: Option<Arc<Backend>>,
    /// Takes what the audit log is to say.
    pub(crate) noted: &'a Noted,
}

/// Answers a request. Errors become Status objects here and nowhere else.
///
/// The future is boxed: it is large, and its type would be part of every connection's.
pub(crate) fn serve(core: Arc<Core>, identity: Identity, request: Request<RequestBody>) -> BoxFuture<'static, Answer> {
    Box::pin(async move { traced(&core, &identity, request).await })
}

async fn traced(core: &Arc<Core>, identity: &Identity, request: Request<RequestBody>) -> Answer {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let span = debug_span!("request", verb = info.verb, path = %info.path, user = %identity.user);
    let backend = core.backend(&info.path);
    let limit = if info.long_running() { None } else { Some(TIMEOUT) };
    // What another server answers is passed back as it is.
    let long = info.long_running() || backend.is_some();
    let gzip = !long && compress::is_wanted(&parts.headers);
    let protobuf = !long && transcode::ask_for_json(&mut parts.headers);
    let received = core.audit.as_ref();
    let received = received.map(|_| Received::of(&parts, &info, core.now_micros()));
    let noted = Noted::default();
    let call = Call {
        core,
        noted: &noted,
        identity,
        info: &info,
        query: &query,
        parts: &mut parts,
        backend,
    };
    let answered = async {
        match limit {
            None => answer(call, body).await,
            Some(limit) => match tokio::time::timeout(limit, answer(call, body)).await {
                Ok(answered) => answered,
                Err(_) => Err(ApiError::timeout(
                    "request did not complete within the allotted timeout",
                    1,
                )),
            },
        }
    };
    let (mut answer, failure) = match answered.instrument(span.clone()).await {
        Ok(answer) => (answer, None),
        Err(error) => (respond::error(&error), Some(error)),
    };
    if protobuf {
        let encoded = transcode::to_protobuf(answer).await;
        answer = encoded.unwrap_or_else(|error| respond::error(&error));
    }
    if gzip {
        answer = compress::compress(answer);
    }
    let id = new_uid();
    if let Ok(audit) = HeaderValue::try_from(id.as_str()) {
        answer.headers_mut().insert("audit-id", audit);
    }
    if let Some(received) = received {
        answer = audit::complete(core, &id, received, &info, noted, answer, failure.as_ref());
    }
    let resource = info.resource.as_ref().map_or("", |resource| resource.resource.as_str());
    core.metrics.count(info.verb, resource, answer.status().as_u16());
    let _entered = span.enter();
    tracing::debug!(
        status = answer.status().as_u16(),
        micros = started.elapsed().as_micros() as u64,
        "answered"
    );
    answer
}

async fn answer(call: Call<'_>, body: RequestBody) -> Result<Answer, ApiError> {
    if call.parts.extensions.get::<CertificateOver>().is_some() {
        return Err(ApiError::unauthorized());
    }
    let asking = authn::authenticate(call.core, call.identity, &mut call.parts.headers)?;
    let mut call = Call {
        identity: asking.identity(),
        ..call
    };
    let authorised = authz::authorise(call.core, call.identity, call.info);
    if call.core.audit.is_some() {
        // Nobody has set them before.
        let _ = call
            .noted
            .users
            .set((asking.own.clone().into_owned(), asking.other.clone()));
        let _ = call.noted.allowed.set(authorised.is_ok());
    }
    authorised?;
    if let Some(backend) = call.backend.take() {
        return aggregate::pass::answer(&mut call, &backend, body).await;
    }
    match &call.info.resource {
        Some(path) => call.resource(path, body).await,
        None => call.other(),
    }
}

impl Call<'_> {
    /// Paths that are no resource: discovery, health and the like.
    fn other(&self) -> Result<Answer, ApiError> {
        let answer = self.page()?;
        if answer.status() == StatusCode::NOT_FOUND || matches!(self.parts.method, Method::GET | Method::HEAD) {
            return Ok(answer);
        }
        Ok(respond::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "405 method not allowed\n",
        ))
    }

    /// What a read of such a path finds.
    fn page(&self) -> Result<Answer, ApiError> {
        let path = self.info.path.as_str();
        if let Some(answer) = self.core.health.answer(path, self.query) {
            return Ok(answer);
        }
        let headers = &self.parts.headers;
        match path.trim_matches('/') {
            "version" => Ok(respond::json(StatusCode::OK, &discovery::version(&self.core.version))),
            "metrics" => Ok(respond::text(
                StatusCode::OK,
                self.core.metrics.text(self.core.store.snapshot().revision()),
            )),
            "" => {
                let served = self.core.serving.newest(&self.core.store);
                Ok(respond::json(
                    StatusCode::OK,
                    &serde_json::json!({"paths": served.discovery.paths()}),
                ))
            }
            path => {
                self.core.refresh_aggregation();
                let served = self.core.serving.newest(&self.core.store);
                let found = oidc::answer(&self.core.tokens, path);
                let found = found.or_else(|| served.discovery.answer(path, headers));
                let found = found.or_else(|| served.openapi.answer(path, headers, self.query));
                Ok(found.unwrap_or_else(respond::page_not_found))
            }
        }
    }

    async fn resource(mut self, path: &ResourcePath, body: RequestBody) -> Result<Answer, ApiError> {
        let core = self.core.clone();
        let kind = &core
            .serving
            .find(&core.store, &path.group, &path.version, &path.resource)
            .ok_or_else(ApiError::no_such_resource)?;
        if kind.namespaced && path.namespace.is_none() && path.name.is_some() {
            return Err(ApiError::no_such_resource());
        }
        if !kind.namespaced && path.namespace.is_some() && kind.plural != "namespaces" {
            return Err(ApiError::no_such_resource());
        }
        self.allow(kind, path)?;
        let namespace = path.namespace.as_deref().filter(|_| kind.namespaced);
        let warnings = Warnings::default();
        let served = core.serving.current();
        let scope = Scope {
            core: &core,
            kind: served.kinds.stored(kind),
            shown: kind,
            namespace,
            identity: self.identity,
            warnings: &warnings,
        };
        let answered = match (path.name.as_deref(), path.subresource.as_deref()) {
            (name, _) if admission::is(kind, "", "ComponentStatus") => component_status::answer(&self, scope, name),
            (name, _) if kind.is_made_on_reading() => usage::answer(&self, scope, name).await,
            (None, _) if admission::is(kind, "", "Binding") => self.bind(scope, body).await,
            (None, _) if !kind.is_stored() => review::answer(&self, kind, body).await,
            (None, _) => self.collection(scope, body).await,
            (Some(name), None) => self.object(scope, name, body).await,
            (Some(name), Some(subresource)) => self.subresource(scope, name, subresource, body).await,
        };
        self.noted.annotations.lock().extend(warnings.take_annotations());
        let mut answer = answered?;
        respond::warn(&mut answer, &warnings.take());
        if let Some(warning) = kind.deprecation() {
            respond::warn(&mut answer, &[warning.to_owned()]);
        }
        Ok(answer)
    }

    /// A binding by itself names its pod.
    async fn bind(&self, scope: Scope<'_>, body: RequestBody) -> Result<Answer, ApiError> {
        let pods = document::kinds().find("", "v1", "pods");
        let pods = pods.ok_or_else(ApiError::no_such_resource)?;
        let scope = Scope {
            kind: pods,
            shown: pods,
            ..scope
        };
        let document = self.document(body).await?;
        let name = object::name(&document.value).to_owned();
        let dry_run = self.write_options("CreateOptions")?.dry_run;
        let bound = scope.bind(&name, document, dry_run).await?;
        Ok(respond::json(StatusCode::CREATED, &bound))
    }

    /// 405 for a verb that the kind does not know, 404 for a part that it does not have.
    fn allow(&self, kind: &Kind, path: &ResourcePath) -> Result<(), ApiError> {
        let verb = self.info.verb;
        let allowed = match path.subresource.as_deref() {
            None => kind.allows(verb),
            Some(name) => kind
                .subresource(name)
                .ok_or_else(ApiError::no_such_resource)?
                .allows(verb),
        };
        if allowed {
            Ok(())
        } else {
            Err(ApiError::method_not_allowed(&kind.group_resource(), verb))
        }
    }

    async fn collection(&mut self, scope: Scope<'_>, body: RequestBody) -> Result<Answer, ApiError> {
        let view = negotiate::view(&self.parts.headers, self.query)?;
        match self.info.verb {
            "create" => {
                let document = self.document(body).await?;
                let options = self.write_options("CreateOptions")?;
                let written = scope.create(document, options).await?;
                if self.core.audit.is_some() {
                    let made = document::parse(&written.json)?;
                    // Nobody has set it before.
                    let _ = self.noted.name.set(object::name(&made).to_owned());
                }
                view::written(scope, view, self.query, written)
            }
            "list" => {
                let options = ListOptions::parse(self.query, false)?;
                view::list(scope, view, self.query, scope.page(&options).await?)
            }
            "watch" => {
                let options = ListOptions::parse(self.query, true)?;
                Ok(view::stream(scope.watch(self.core, options, view).await?))
            }
            _ => {
                let list = ListOptions::parse(self.query, false)?;
                let options = self.delete_options(body).await?;
                let records = scope.delete_collection(&list, &options).await?;
                view::deleted_collection(scope, records)
            }
        }
    }

    async fn object(&mut self, scope: Scope<'_>, name: &str, body: RequestBody) -> Result<Answer, ApiError> {
        let view = negotiate::view(&self.parts.headers, self.query)?;
        match self.info.verb {
            "get" => view::object(
                scope,
                view,
                self.query,
                StatusCode::OK,
                scope.record(name).await?.json.clone(),
            ),
            "watch" => {
                let named = self.query.single_name(name);
                let options = ListOptions::parse(&named, true)?;
                Ok(view::stream(scope.watch(self.core, options, view).await?))
            }
            "update" => self.replace(scope, name, Part::Main, body).await,
            "patch" => self.patch(scope, name, Part::Main, body).await,
            _ => {
                let options = self.delete_options(body).await?;
                match scope.delete(name, &options).await? {
                    Deleted::Gone(status) => Ok(respond::json(StatusCode::OK, &status)),
                    Deleted::Pending(json) => view::object(scope, view, self.query, StatusCode::OK, json),
                }
            }
        }
    }

    async fn subresource(
        &mut self,
        scope: Scope<'_>,
        name: &str,
        subresource: &str,
        body: RequestBody,
    ) -> Result<Answer, ApiError> {
        if matches!(subresource, "exec" | "attach" | "portforward" | "proxy") {
            scope.users_connect(subresource, name, self.query).await?;
        }
        if subresource == "proxy" {
            // The query is the pod's, not ours.
            return proxy::answer(self, scope, name, body).await;
        }
        let dry_run = self.write_options("UpdateOptions")?.dry_run;
        if let Some(part) = Part::of_subresource(subresource) {
            return self.part(scope, name, part, body).await;
        }
        match (subresource, self.info.verb) {
            ("scale", "get") => {
                let view = negotiate::view(&self.parts.headers, self.query)?;
                view::scale(scope, view, self.query, scope.scale(name).await?)
            }
            ("scale", verb) => {
                let view = negotiate::view(&self.parts.headers, self.query)?;
                let (source, options) = match verb {
                    "patch" => {
                        let (patch, options) = self.read_patch(body).await?;
                        (ScaleSource::Patch(patch), options)
                    }
                    _ => (
                        ScaleSource::Body(self.document(body).await?),
                        self.write_options("UpdateOptions")?,
                    ),
                };
                view::scale(scope, view, self.query, scope.rescale(name, source, options).await?)
            }
            ("binding", _) => {
                let document = self.document(body).await?;
                Ok(respond::json(
                    StatusCode::CREATED,
                    &scope.bind(name, document, dry_run).await?,
                ))
            }
            ("eviction", _) => {
                let document = self.document(body).await?;
                Ok(respond::json(
                    StatusCode::CREATED,
                    &scope.evict(name, document, self.query).await?,
                ))
            }
            ("token", _) => {
                let document = self.document(body).await?;
                let options = self.write_options("CreateOptions")?;
                let issued = scope.issue_token(name, document, options).await?;
                Ok(respond::json(StatusCode::CREATED, &issued))
            }
            ("log", _) => logs::answer(self, scope, name).await,
            ("exec", _) => stream::remote::exec(self, scope, name).await,
            ("attach", _) => stream::remote::attach(self, scope, name).await,
            ("portforward", _) => stream::forward::answer(self, scope, name).await,
            _ => Err(ApiError::no_such_resource()),
        }
    }

    /// Parts that are read as the whole object and written as one.
    async fn part(&mut self, scope: Scope<'_>, name: &str, part: Part, body: RequestBody) -> Result<Answer, ApiError> {
        match self.info.verb {
            "get" => {
                let view = negotiate::view(&self.parts.headers, self.query)?;
                let record = scope.record(name).await?;
                view::object(scope, view, self.query, StatusCode::OK, record.json.clone())
            }
            "patch" => self.patch(scope, name, part, body).await,
            _ => self.replace(scope, name, part, body).await,
        }
    }

    async fn replace(
        &mut self,
        scope: Scope<'_>,
        name: &str,
        part: Part,
        body: RequestBody,
    ) -> Result<Answer, ApiError> {
        let view = negotiate::view(&self.parts.headers, self.query)?;
        let document = self.document(body).await?;
        let options = self.write_options("UpdateOptions")?;
        view::written(
            scope,
            view,
            self.query,
            scope.replace(name, part, document, options).await?,
        )
    }

    async fn patch(&mut self, scope: Scope<'_>, name: &str, part: Part, body: RequestBody) -> Result<Answer, ApiError> {
        let view = negotiate::view(&self.parts.headers, self.query)?;
        let (patch, options) = self.read_patch(body).await?;
        let written = match patch.is_apply() {
            true => scope.apply(name, part, patch, options).await?,
            false => scope.patch(name, part, patch, options).await?,
        };
        view::written(scope, view, self.query, written)
    }

    /// The options of a write; `kind` is what errors call them.
    pub(crate) fn write_options(&self, kind: &str) -> Result<WriteOptions<'_>, ApiError> {
        WriteOptions::parse(kind, self.query, &self.parts.headers, self.identity)
    }

    pub(crate) async fn document(&self, body: RequestBody) -> Result<decode::Document, ApiError> {
        let bytes = decode::read(body).await?;
        decode::parse(&self.parts.headers, &bytes)
    }

    async fn read_patch(&self, body: RequestBody) -> Result<(Patch, WriteOptions<'_>), ApiError> {
        let bytes = decode::read(body).await?;
        let patch = Patch::parse(decode::content_type(&self.parts.headers), bytes)?;
        let options = self.write_options("PatchOptions")?;
        options.check_patch(patch.is_apply())?;
        Ok((patch, options))
    }

    async fn delete_options(&self, body: RequestBody) -> Result<DeleteOptions, ApiError> {
        let document = self.document(body).await?;
        DeleteOptions::parse(&document.value, self.query)
    }
}
