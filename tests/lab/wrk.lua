-- wrk's report as one last line of JSON: requests, errors, and seconds: of the run and at two percentiles of the latency.
-- With an argument each thread, which is to have one connection, ends after so many requests, none of them cut off.
function init(arguments)
    local left = tonumber(arguments[1])
    if left then
        function response()
            left = left - 1
            if left == 0 then
                wrk.thread:stop()
            end
        end
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
