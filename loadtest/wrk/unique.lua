-- Every request is a new one: its own user id, traceparent and x-request-id.
local state = 0
local sequence = 0

function setup(thread)
  thread:set("seed", os.time())
end

function init()
  state = seed % 2147483647
end

-- Park and Miller's generator: cheap, and unique enough for 31 bits beside a counter.
local function random31()
  state = (state * 16807) % 2147483647
  return state
end

local head = table.concat({
  " HTTP/1.1",
  "Host: " .. wrk.host .. ":" .. wrk.port,
  "User-Agent: python-httpx/0.28.1",
  "Accept: application/json",
  "Accept-Encoding: gzip, deflate",
  "Connection: keep-alive",
  "Authorization: Bearer 5d41402abc4b2a76b9719d911017c592",
  "",
}, "\r\n")

function request()
  sequence = sequence + 1
  local a, b = random31(), random31()
  return string.format(
    "GET /api/users/%d?page=2%straceparent: 00-%08x%08x%08x%08x-%08x%08x-01\r\n"
      .. "x-request-id: %08x-%04x-4000-8000-%012x\r\n\r\n",
    a, head, a, b, sequence, a, b, sequence, a, b % 65536, sequence)
end

dofile(os.getenv("BENCH_REPORT_LUA"))
