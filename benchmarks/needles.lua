-- wrk script: needles of one node.
-- Arguments after the URL: mode (get | put | form), volume ids (comma list), cookie, first key, count, body bytes.
-- get reads random keys of first … first+count-1; put and form write a new key with every request.

local mode, cookie, first, count, key, body
local volumes, headers = {}, {}

local BOUNDARY = "needle-form-boundary"
local FORM = "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\"\r\n" ..
  "Content-Type: application/octet-stream\r\n\r\n%s\r\n--%s--\r\n"

local function random_bytes(size)
  local bytes = {}
  for i = 1, size do bytes[i] = string.char(math.random(0, 255)) end
  return table.concat(bytes)
end

function init(args)
  mode, cookie, first, count = args[1], args[3], tonumber(args[4]), tonumber(args[5])
  for id in args[2]:gmatch("%d+") do volumes[#volumes + 1] = id end
  math.randomseed(first)
  key = first
  if mode == "get" then return end
  body = random_bytes(tonumber(args[6]))
  if mode == "form" then
    headers["Content-Type"] = "multipart/form-data; boundary=" .. BOUNDARY
    body = FORM:format(BOUNDARY, body, BOUNDARY)
  end
end

function request()
  if mode == "get" then key = first + math.random(0, count - 1) else key = key + 1 end
  local path = string.format("/%s,%x%s", volumes[key % #volumes + 1], key, cookie)
  return wrk.format(mode == "get" and "GET" or mode == "put" and "PUT" or "POST", path, headers, body)
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    "RESULT %d %d %d %d %d %d",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
