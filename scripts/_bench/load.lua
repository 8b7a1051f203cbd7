-- Runs inside wrk: wrk -s load.lua URL -- SCENARIO [TOKENS]. TOKENS is a file with one access token per line. The first half of
-- them reads, the other half buys, so that the measured lists of invoices do not grow. The last line of output is JSON; times are ms.

local PRODUCTS, READ_PRODUCTS = 10000, 500

local function lines(path)
    local found = {}
    for line in io.lines(path) do found[#found + 1] = line end
    return found
end

local GZIP = "gzip, deflate, br"  -- what a browser sends

local function headers(token, coding)
    return {
        ["Accept-Encoding"] = coding,
        ["Host"] = wrk.headers["Host"],
        ["Authorization"] = token and "Bearer " .. token,
        ["Content-Type"] = "application/json",
    }
end

local function line(product_id)
    return string.format('{"product_id":%d,"quantity":%d}', product_id, math.random(3))
end

local function purchase(token, ...)
    local body = '{"products":[' .. table.concat({...}, ",") .. "]}"
    return wrk.format("POST", "/purchase_product", headers(token), body)
end

local function two_products()
    local one = math.random(PRODUCTS)
    return line(one), line((one + math.random(PRODUCTS - 1) - 1) % PRODUCTS + 1)
end

-- Each scenario: a function that makes one request. tokens: those of this scenario.
local make = {
    product = function() return wrk.format("GET", "/products?id=" .. math.random(READ_PRODUCTS)) end,
    list = function() return wrk.format("GET", "/products") end,
    invoices = function(tokens) return wrk.format("GET", "/invoices", headers(tokens[math.random(#tokens)])) end,
    list_gzip = function() return wrk.format("GET", "/products", headers(nil, GZIP)) end,
    invoices_gzip = function(tokens) return wrk.format("GET", "/invoices", headers(tokens[math.random(#tokens)], GZIP)) end,
    spread = function(tokens) return purchase(tokens[math.random(#tokens)], two_products()) end,
    hot = function(tokens) return purchase(tokens[math.random(#tokens)], line(1)) end,
    constant = function(_, size) return wrk.format("GET", "/" .. size) end,
}
make.mix = function(tokens)
    local reads = {make.product, make.list, make.invoices}
    return math.random(10) == 1 and make.spread(tokens) or reads[math.random(#reads)](tokens)
end

local thread_number = 0

function setup(thread)
    thread_number = thread_number + 1
    thread:set("number", thread_number)
end

function init(arguments)
    math.randomseed(os.time() * 16 + number)
    local scenario, tokens = arguments[1], {}
    if scenario ~= "constant" then
        local all = lines(arguments[2])
        local reads = scenario == "invoices" or scenario == "invoices_gzip"
        for i = reads and 1 or #all / 2 + 1, reads and #all / 2 or #all do tokens[#tokens + 1] = all[i] end
    end
    local requests = {}
    for i = 1, 5000 do requests[i] = make[scenario](tokens, arguments[2]) end
    request = function() return requests[math.random(#requests)] end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "rps": %.1f, "p50": %.3f, "p99": %.3f, "max": %.1f, "bad_status": %d, "socket_errors": %d}\n',
        summary.requests, summary.requests / summary.duration * 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
