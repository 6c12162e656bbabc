"""try: ready-made calls of the public interface, each shown as curl with its answer."""

from __future__ import annotations

import json
import shlex
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from services.stack.commands.console import FAILED, secrets_of, this_home, told_errors
from services.stack.errors import StackError
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.paths import ROOT

# What people type, and the operation it means. All other operations go by their own names.
SHORT = {
    "register": "Identity_Register",
    "login": "Identity_Login",
    "otp": "Identity_SendOtp",
    "verify": "Identity_VerifyOtp",
    "refresh": "Identity_RefreshToken",
    "me": "Identity_GetMe",
    "sessions": "Identity_ListSessions",
    "logout": "Identity_Logout",
    "profile": "Profile_GetOwnProfile",
    "health": "Web_GetHealth",
    "services": "Web_ListServices",
}
# Given where the caller says nothing; the person of `try` is the same from call to call.
DEFAULTS: dict[str, dict[str, str]] = {
    "Identity_Register": {"username": "tried"},
    "Identity_Login": {"username": "tried"},
    "Profile_CreateProfile": {"display_name": "Tried"},
}
WITH_PASSWORD = ("Identity_Register", "Identity_Login")
TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call, ready to be sent or to be shown."""

    verb: str
    path: str
    body: dict[str, Any] | None
    signed_in: bool

    def curl(self, url: str) -> str:
        """The call as a person would type it, with the token as $TOKEN."""
        parts = [
            "curl",
            "-sS",
            *(["-X", self.verb] if self.verb != "GET" else []),
            shlex.quote(url + self.path),
        ]
        if self.signed_in:
            parts.append('-H "authorization: Bearer $TOKEN"')
        if self.body is not None:
            body = shlex.quote(json.dumps(self.body, ensure_ascii=False))
            parts += ["-H", "'content-type: application/json'", "-d", body]
        return " ".join(parts)


def try_(
    *,
    name: Annotated[str, typer.Argument(help="A ready-made call, or any operation; see --list.")] = "",
    fields: Annotated[list[str] | None, typer.Argument(help="FIELD=VALUE, for body, path or query.")] = None,
    listing: Annotated[bool, typer.Option("--list", "-l", help="Show all operations.")] = False,
) -> None:
    """Send a ready-made call to the stack that is up; show it as curl, then the answer.

    Ready-made are register, login, otp, verify, refresh, me, sessions, logout, profile, health, services. A
    sign-in is remembered, so that the next call has its token. Exit code 1 when the answer is an error.

    \b
    Examples:
      sampan try register
      sampan try login
      sampan try me
      sampan try otp identifier=+66812345678 type=phone
      sampan try create-profile display_name=Somchai
    """
    with told_errors():
        home, environment = this_home()
        operations = load_operations()
        if listing or not name:
            show_all(operations)
            return
        operation = find(operations, name)
        memory = remembered(home)
        given = dict(pair(text) for text in fields or ())
        request = prepare(operation, {**presets(operation, home, memory), **given})
        if not send(request, home, environment, memory):
            raise typer.Exit(FAILED)


def load_operations() -> dict[str, dict[str, Any]]:
    """Operations of openapi.json by id, without aliases; schemas of bodies are resolved."""
    api = json.loads((ROOT / "gen" / "openapi.json").read_text(encoding="utf-8"))
    schemas = api["components"]["schemas"]
    found = {}
    for path, item in api["paths"].items():
        for verb, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            reference = content["schema"].get("$ref", "") if content else ""
            body = schemas.get(reference.rpartition("/")[2]) if content else None
            if "x-alias-of" not in operation:
                found[operation["operationId"]] = {
                    **operation,
                    "verb": verb.upper(),
                    "path": path,
                    "body": body,
                }
    return found


def find(operations: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """By short name, or by the method's name in any spelling: create-profile, CreateProfile."""
    if name in SHORT:
        return operations[SHORT[name]]
    wanted = name.replace("-", "").replace("_", "").lower()
    for key, operation in operations.items():
        if wanted in (key.replace("_", "").lower(), key.partition("_")[2].lower()):
            return operation
    raise StackError("try", f"knows no call {name}", "sampan try --list shows them all.")


def pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise StackError("try", f"{text} is not FIELD=VALUE", "For example: username=somchai")
    return field, value


def presets(operation: Mapping[str, Any], home: Home, memory: Mapping[str, str]) -> dict[str, str]:
    """Values that need not be typed: the person of `try`, and what an earlier answer gave."""
    found = dict(DEFAULTS.get(operation["operationId"], {}))
    if operation["operationId"] in WITH_PASSWORD:
        found["password"] = secrets_of(home).demo_password
    wanted = (operation["body"] or {}).get("properties", {})
    return found | {
        name: memory[name] for name in ("refresh_token", "session_id") if name in memory and name in wanted
    }


def prepare(operation: Mapping[str, Any], values: Mapping[str, str]) -> Request:
    """Puts every value where the operation wants it. Raises StackError for one that has no place."""
    path, query, left = operation["path"], {}, dict(values)
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        if name not in left:
            if parameter.get("required"):
                raise StackError("try", f"{name} is missing", f"Add {name}=...")
            continue
        if parameter["in"] == "path":
            path = path.replace("{" + name + "}", quote(left.pop(name), safe=""))
        else:
            query[name] = left.pop(name)
    known = (operation["body"] or {}).get("properties", {})
    unknown = [name for name in left if name not in known]
    if unknown:
        raise StackError(
            "try",
            f"{operation['path']} has no field {unknown[0]}",
            f"It has: {', '.join(known)}" if known else "Call it without fields.",
        )
    body = {name: typed(value, known[name]) for name, value in left.items()}
    return Request(
        operation["verb"],
        path + (f"?{urlencode(query)}" if query else ""),
        body if operation["body"] is not None else None,
        bool(operation["security"]),
    )


def typed(value: str, schema: Mapping[str, Any]) -> Any:
    """Text stays text; anything else is read as JSON."""
    if schema.get("type") == "string":
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise StackError(
            "try", f"{value} is not JSON, which {schema.get('type', 'this field')} needs"
        ) from None


def send(request: Request, home: Home, environment: dict[str, str], memory: dict[str, str]) -> bool:
    """Shows the call and the answer, and remembers tokens. Returns whether it went well."""
    import httpx

    from services.stack.envoy_part import Edge

    edge = Edge(environment)
    if request.signed_in and not memory.get("access_token"):
        hint = "Run sampan try login first, or sampan try register if nobody is there yet."
        raise StackError("try", "nobody is signed in", hint)
    typer.echo(f"$ {request.curl(edge.url)}")
    headers = {"authorization": f"Bearer {memory.get('access_token', '')}"} if request.signed_in else {}
    trusted = ssl.create_default_context(cafile=str(edge.certificate)) if edge.certificate else True
    try:
        answer = httpx.request(
            request.verb,
            edge.url + request.path,
            json=request.body,
            headers=headers,
            timeout=TIMEOUT,
            verify=trusted,
        )
    except httpx.TransportError as error:
        raise StackError(
            "envoy", f"does not answer at {edge.url}: {error}", "Run ./scripts/up first."
        ) from None
    typer.echo(f"HTTP {answer.status_code}")
    if answer.headers.get("location"):
        typer.echo(f"location: {answer.headers['location']}")
    found = answer.json() if answer.content else None
    if found is not None:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    if answer.is_success and isinstance(found, dict):
        remember(home, memory, found)
    return answer.is_success


def remembered(home: Home) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((home.run / "try.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def remember(home: Home, memory: dict[str, str], answer: dict[str, Any]) -> None:
    fresh = {name: answer[name] for name in ("access_token", "refresh_token", "session_id") if name in answer}
    if fresh:
        write_private(home.run / "try.json", json.dumps({**memory, **fresh}))


def show_all(operations: Mapping[str, dict[str, Any]]) -> None:
    short = {value: key for key, value in SHORT.items()}
    for key in sorted(operations):
        one = operations[key]
        name = short.get(key, key.partition("_")[2])
        typer.echo(f"{name:<22} {one['verb']:<6} {one['path']:<32} {one['summary']}")
