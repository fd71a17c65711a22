"""A service in Python: answers with what it was asked, and with the number of words that it was sent."""

import json
import os

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


def text_of(request: IncomingRequest) -> str:
    """The whole body."""
    body, pieces = request.consume(), []
    with body.stream() as stream:
        try:
            while True:
                pieces.append(stream.blocking_read(16 * 1024))
        except Err as end:
            if not isinstance(end.value, StreamError_Closed):
                raise
    IncomingBody.finish(body)
    return b"".join(pieces).decode()


class IncomingHandler(exports.IncomingHandler):
    """What `wasi:http/incoming-handler` calls for each request."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        words = text_of(request).split()
        answer = {"path": request.path_with_query(), "words": len(words), "pod": os.environ["POD"]}
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(json.dumps(answer).encode() + b"\n")
        OutgoingBody.finish(body, None)
        print("answered", answer["path"], flush=True)
