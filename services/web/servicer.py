"""proto <-> domain for sampan.web.v1."""

from __future__ import annotations

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.struct_pb2 import Struct

from sampan.web.v1 import web_service_pb2
from services.mesh.call import Call
from services.web.docs import Docs
from services.web.service import WebService


class WebServicer:
    """Implements sampan.web.v1.WebService."""

    def __init__(self, service: WebService, docs: Docs) -> None:
        self._service = service
        self._docs = docs

    async def GetHealth(self, _: web_service_pb2.GetHealthRequest, call: Call) -> Struct:
        health = await self._service.health()
        if not health.healthy:
            call.answer_with(503)
        answer = Struct()
        answer.update(health.answer())
        return answer

    async def ListServices(
        self, _: web_service_pb2.ListServicesRequest, __: Call
    ) -> web_service_pb2.ListServicesResponse:
        found = await self._service.services()
        return web_service_pb2.ListServicesResponse(
            services=[
                web_service_pb2.ServiceStatus(
                    name=name, version=self._service.version, status="up" if up else "down"
                )
                for name, up in found.items()
            ]
        )

    async def GetOpenApi(self, _: web_service_pb2.GetOpenApiRequest, call: Call) -> HttpBody:
        call.headers.extend(self._docs.headers)
        return HttpBody(content_type="application/json", data=self._docs.openapi)

    async def GetDocs(self, _: web_service_pb2.GetDocsRequest, call: Call) -> HttpBody:
        call.headers.extend([*self._docs.headers, *self._docs.page_headers])
        return HttpBody(content_type="text/html; charset=utf-8", data=self._docs.page)
