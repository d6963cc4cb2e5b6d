// What the fuzzers do with a body, and what must hold of what is published then.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "exporter/application/otlp_conversion.h"
#include "exporter/application/otlp_request.h"
#include "exporter/exposition.h"
#include "tests/fuzz/must.h"

namespace pangolin {

// Every line is ended, every family has one TYPE, and no series stands twice.
inline void check_exposition(std::string_view text) {
    std::set<std::string_view> seen;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        must(end != std::string_view::npos);
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end + 1);
        if (line.starts_with("# TYPE "))
            must(seen.insert(line.substr(0, line.find(' ', std::string_view("# TYPE ").size()))).second);
        else if (!line.starts_with('#'))
            must(seen.insert(line.substr(0, line.rfind(' '))).second);
    }
}

inline void check_both_formats(ApplicationMetrics& registry) {
    for (const ExpositionFormat format : {ExpositionFormat::text, ExpositionFormat::open_metrics}) {
        Exposition body_out(std::make_shared<Snapshot>(), nullptr, format, registry.collect());
        std::string text;
        for (auto block = body_out.next_block(); !block.empty(); block = body_out.next_block())
            text += block;
        check_exposition(text);
    }
}

// Twice: what was taken once may come again, and the state of the first time is there.
inline void fuzz_otlp(std::string_view body, OtlpEncoding encoding) {
    ApplicationOptions options;
    options.limits.series = 200;
    options.limits.families = 20;
    ApplicationMetrics registry(std::move(options));
    constexpr std::size_t max_messages = 20'000;
    const Result<OtlpRequest> request = parse_otlp(body, encoding, max_messages);
    if (!request)
        return;
    for (int i = 0; i < 2; ++i)
        std::ignore = otlp_response(import_otlp(*request, registry), encoding);
    check_both_formats(registry);
}

}  // namespace pangolin
