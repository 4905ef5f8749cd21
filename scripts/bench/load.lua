-- What wrk sends to amzrec serve. Words after --: recommend | events | batch | only, connections per second wanted
-- (0: as fast as it goes), connections, customers, products, seed; or lines, and a file of bodies, with the path last.
-- With a rate, each connection waits for a random time (exponential) before each request, so that all of them together
-- come like independent people: at the rate wanted, at random moments. At most 4 s, for the service closes connections
-- that are idle for 5, which wrk would count as an error.
local kind, rate, connections, customers, products, number, path
local bodies = {}

function init(args)
  kind, rate, connections = args[1], tonumber(args[2]), tonumber(args[3])
  customers, products, number = tonumber(args[4]), tonumber(args[5]), 0
  math.randomseed(tonumber(args[6]))
  if kind == "lines" then
    for line in io.lines(args[7]) do bodies[#bodies + 1] = line end
    path = args[8]
  end
  if rate == 0 then delay = nil end
  wrk.headers["Content-Type"] = "application/json"
end

function delay()
  return math.min(-math.log(1 - math.random()) * 1000 * connections / rate + 0.5, 4000)
end

local function event()
  return string.format('{"customer_id": "E%d", "product_id": "B%09d", "kind": "view"}',
    math.random(0, 1000000), math.random(0, products - 1))
end

function request()
  if kind == "lines" then return wrk.format("POST", path, nil, bodies[math.random(#bodies)]) end
  local customer = string.format("A%013d", math.random(0, customers - 1))
  if kind == "recommend" then
    return wrk.format("GET", "/recommend/" .. customer .. "?k=10")
  elseif kind == "only" then
    return wrk.format("GET", "/recommend/" .. customer .. "?k=10&only=category%3D" .. math.random(0, 49))
  elseif kind == "events" then
    return wrk.format("POST", "/events", nil, event())
  end
  local events = {}
  for place = 1, 100 do events[place] = event() end
  return wrk.format("POST", "/events", nil, "[" .. table.concat(events, ",") .. "]")
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    'FOUND {"seconds": %f, "requests": %d, "p50": %f, "p99": %f, "max": %f, "refused": %d, "broken": %d}\n',
    summary.duration / 1e6, summary.requests, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, e.status, e.connect + e.read + e.write + e.timeout))
end
