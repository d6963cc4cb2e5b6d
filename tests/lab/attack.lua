-- Requests of which no two are alike: in method, path and, every other one, in host; else it is the first argument. Ends
-- when as many as the second argument says, or a few more, are answered, none of them cut off. Reports as wrk.lua does.
-- For one thread.
function init(arguments)
    domain = arguments[1]
    limit = tonumber(arguments[2])
    -- wrk asks for a request more, to look at it.
    sent, answered = -1, 0
end

local function word(letters, longest)
    local made = {}
    for at = 1, math.random(3, longest) do
        local place = math.random(#letters)
        made[at] = letters:sub(place, place)
    end
    return table.concat(made)
end

function request()
    sent = sent + 1
    local method = math.random(4) == 1 and word("ABCDEFGHIJKLMNOPQRSTUVWXYZ-", 20) or "GET"
    local host = sent % 2 == 0 and domain or word("abcdefghijklmnopqrstuvwxyz", 30) .. "." .. sent .. ".example.com"
    return wrk.format(method, "/" .. word("abcdefghijklmnopqrstuvwxyz/", 60) .. "/" .. sent, {Host = host})
end

-- Milliseconds before a connection's next request.
function delay()
    return sent < limit and 0 or 1000000
end

function response()
    answered = answered + 1
    if sent >= limit and answered == sent then
        -- Later: as long as os.execute() runs wrk ignores the signal.
        os.execute("(sleep 0.3; kill -INT $PPID) &")
    end
end

function done(summary, latency)
    local errors = 0
    for _, count in pairs(summary.errors) do
        errors = errors + count
    end
    print(string.format('{"requests":%d,"errors":%d,"seconds":%.6f,"p50":%.6f,"p99":%.6f}', summary.requests, errors,
        summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
