-- What no filter of Envoy does: start the trace, insist on canonical tokens, and turn a service's answer
-- into REST. The generator puts before this file: DETAILS (google.rpc.Status by reason), FOREIGN (what a bare
-- gRPC code means), PROBLEMS (what a bare HTTP status means), NO_TRACE and NO_PATH (what stands in these where
-- the trace id and the path go), WEBSOCKETS (paths) and TRACE_PERCENT.

-- Last characters that leave no stray bits, by length of the base64url text modulo 4.
local LAST = { [0] = "[%w_-]$", [2] = "[AQgw]$", [3] = "[AEIMQUYcgkosw048]$" }

local function canonical(text)
  local last = LAST[#text % 4]
  return last ~= nil and text:find(last) ~= nil
end

-- Envoy takes `token==`, stray bits, and the word Bearer anywhere: what is not in canonical form becomes
-- what it surely refuses, and only where a token is needed at all.
local function tidy_token(headers)
  local sent = headers:get("authorization")
  if sent == nil then return end
  local scheme, token = sent:match("^(%a+) +(.*)$")
  if scheme == nil or scheme:lower() ~= "bearer" then
    headers:remove("authorization")
    return
  end
  local head, body, mark = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
  if head and canonical(head) and canonical(body) and canonical(mark) then
    headers:replace("authorization", "Bearer " .. token)
  else
    headers:replace("authorization", "Bearer refused")
  end
end

-- A browser cannot set headers of a WebSocket. Its token comes in the address or as a subprotocol after the word
-- bearer, and becomes a header here, before anybody writes the address down.
local function token_of_websocket(headers)
  local bare, query = (headers:get(":path") or ""):match("^([^?]*)%??(.*)$")
  if WEBSOCKETS[bare] == nil then return end
  local kept, token = {}, nil
  for pair in query:gmatch("[^&]+") do
    local value = pair:match("^token=(.*)$")
    if value == nil then kept[#kept + 1] = pair else token = value end
  end
  if token ~= nil then
    headers:replace(":path", #kept > 0 and bare .. "?" .. table.concat(kept, "&") or bare)
  end
  local offered = (headers:get("sec-websocket-protocol") or ""):match("^bearer%s*,%s*([%w%._-]+)$")
  if offered ~= nil then
    headers:replace("sec-websocket-protocol", "bearer")
    token = token or offered
  end
  if token ~= nil and headers:get("authorization") == nil then
    headers:replace("authorization", "Bearer " .. token)
  end
end

-- Keeps a caller's trace id when it is a W3C one, else makes it from the request id. Whether the trace is
-- kept is decided here, whatever the caller asks for.
local function start_trace(headers)
  local spanned = headers:get("x-sampan-trace") or ""
  if #spanned == 32 then
    -- The edge's own span is in that trace; the router writes the traceparent that follows from it.
    headers:remove("x-sampan-trace")
    return spanned
  end
  local sent = headers:get("traceparent") or ""
  local trace, parent = sent:match("^00%-([0-9a-f]+)%-([0-9a-f]+)%-[0-9a-f][0-9a-f]$")
  if trace == nil or #trace ~= 32 or #parent ~= 16 or trace:find("^0+$") or parent:find("^0+$") then
    trace = (headers:get("x-request-id") or ""):gsub("-", "")
    parent = trace:sub(17, 32)
  end
  local kept = (tonumber(trace:sub(1, 4), 16) or 0) % 100 < TRACE_PERCENT and "01" or "00"
  headers:replace("traceparent", "00-" .. trace .. "-" .. parent .. "-" .. kept)
  return trace
end

local function wrong_media_type(handle, headers)
  if handle:metadata():get("body") ~= "json" then return false end
  local media = headers:get("content-type")
  if media ~= nil then
    local name = media:lower():match("^%s*([^;%s]+)%s*;?")
    return name ~= "application/json"
  end
  local length = headers:get("content-length")
  if length ~= nil then return tonumber(length) ~= 0 end
  local body = handle:body()
  return body ~= nil and body:length() > 0
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("sampan", "trace_id", start_trace(headers))
  token_of_websocket(headers)
  tidy_token(headers)
  local media = headers:get("content-type")
  if media ~= nil and media:sub(1, 16) == "application/grpc" then return end
  metadata:set("sampan", "path", (headers:get(":path") or ""):match("^[^?#]*"))
  metadata:set("sampan", "answer", handle:metadata():get("answer") or "")
  if wrong_media_type(handle, headers) then handle:respond({ [":status"] = "415" }, "") end
end

-- Only characters that may stand in a path and in JSON stay as they are.
local function safe(path)
  return (path:gsub("[^%w%-%._~:/!$&'()*+,;=@%%]", function(c) return ("%%%02X"):format(c:byte()) end)):sub(1, 256)
end

local function set_details(handle, headers, template, trace)
  local status = template:gsub(NO_TRACE, trace, 1)
  headers:replace("grpc-status-details-bin", handle:base64Escape(status))
end

-- The edge's own answers lack only the trace id. Errors from below a service, which are trailers without
-- details, lack everything.
local function finish_grpc(handle, headers, reason, trace)
  if trace == nil then return end
  if reason ~= nil then
    set_details(handle, headers, DETAILS[reason], trace)
    return
  end
  local foreign = FOREIGN[headers:get("grpc-status") or "0"]
  if foreign == nil or headers:get("grpc-status-details-bin") ~= nil then return end
  headers:replace("grpc-status", foreign.code)
  headers:replace("grpc-message", foreign.message)
  set_details(handle, headers, foreign.details, trace)
end

local function set_body(handle, text, media)
  local length = handle:body(true):setBytes(text)
  local headers = handle:headers() -- body() may have yielded, and the old ones are void then
  if media == nil then
    headers:remove("content-type")
    headers:remove("content-length")
    return
  end
  headers:replace("content-type", media)
  headers:replace("content-length", tostring(length))
end

local function set_problem(handle, headers, status, problem)
  headers:replace(":status", status)
  if status == "401" then headers:replace("www-authenticate", "Bearer") end
  set_body(handle, problem, "application/problem+json")
end

-- An error that no service of ours worded, such as a stream that broke: worded by its HTTP status.
local function generic_problem(status, edge)
  local known = PROBLEMS[status] or PROBLEMS[tonumber(status) < 500 and "400" or "500"]
  local text = known.body:gsub(NO_TRACE, edge.trace_id or "", 1)
  return known.status, (text:gsub(NO_PATH, function() return safe(edge.path) end, 1))
end

local GRPC_ONLY = { "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding" }

local function finish_rest(handle, headers, code, problem, edge)
  for _, name in ipairs(GRPC_ONLY) do headers:remove(name) end
  local status = headers:get(":status")
  if problem ~= nil then
    set_problem(handle, headers, code or status, problem)
  elseif code ~= nil and tonumber(status) < 400 then
    headers:replace(":status", code)
    if code == "204" then set_body(handle, "", nil) end
  elseif tonumber(status) >= 400 and headers:get("content-type") ~= "application/problem+json" then
    set_problem(handle, headers, generic_problem(status, edge))
  elseif edge.answer == "lines" and headers:get("content-type") == "application/json" then
    -- The transcoder calls a stream what each of its lines is.
    headers:replace("content-type", "application/x-ndjson")
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local edge = handle:streamInfo():dynamicMetadata():get("sampan") or {}
  local code, problem = headers:get("x-http-code"), headers:get("x-problem")
  local reason, plain = headers:get("x-sampan-reason"), headers:get("x-sampan-plain")
  headers:remove("x-http-code")
  headers:remove("x-problem")
  headers:remove("x-sampan-reason")
  headers:remove("x-sampan-plain")
  headers:remove("x-envoy-ratelimited")
  if edge.path == nil then
    finish_grpc(handle, headers, reason, edge.trace_id)
  elseif plain == nil then
    finish_rest(handle, headers, code, problem, edge)
  end
end
