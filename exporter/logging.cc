#include "exporter/logging.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

#include "userspace/utf8.h"

namespace pangolin {
namespace {

// The message between double quotes, escaped so that both logfmt and JSON readers take it: messages carry
// names from databases and the kernel, which need not be UTF-8.
class QuotedMessage : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        out.push_back('"');
        std::string_view text(message.payload.data(), message.payload.size());
        while (!text.empty())
            text.remove_prefix(append_first(text, out));
        out.push_back('"');
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<QuotedMessage>();
    }

  private:
    static void append(std::string_view text, spdlog::memory_buf_t& out) {
        out.append(text.data(), text.data() + text.size());
    }

    // Appends the first character of `text`; its length in bytes.
    static std::size_t append_first(std::string_view text, spdlog::memory_buf_t& out) {
        if (const std::size_t length = control_length(text); length > 0) {
            // Each is below U+0100, and its number is its last byte.
            append(fmt::format("\\u{:04x}", static_cast<unsigned char>(text[length - 1])), out);
            return length;
        }
        if (text.front() == '"' || text.front() == '\\')
            out.push_back('\\');
        const std::size_t length = utf8_sequence_length(text);
        append(length > 0 ? text.substr(0, length) : utf8_replacement, out);
        return length > 0 ? length : 1;
    }
};

spdlog::level::level_enum to_spdlog(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return spdlog::level::debug;
        case LogLevel::info:
            return spdlog::level::info;
        case LogLevel::warn:
            return spdlog::level::warn;
        case LogLevel::error:
            break;
    }
    return spdlog::level::err;
}

}  // namespace

void start_logging(LogLevel level, LogFormat format) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
    formatter->add_flag<QuotedMessage>('*');
    formatter->set_pattern(format == LogFormat::json
                               ? R"({"ts":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","msg":%*})"
                               : "ts=%Y-%m-%dT%H:%M:%S.%eZ level=%l msg=%*");
    auto logger = std::make_shared<spdlog::logger>("pangolin_exporter",
                                                   std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_formatter(std::move(formatter));
    logger->set_level(to_spdlog(level));
    logger->flush_on(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
}

void log_always(std::string_view message) {
    spdlog::logger& logger = *spdlog::default_logger_raw();
    const auto level = logger.level();
    logger.set_level(spdlog::level::info);
    logger.info("{}", message);
    logger.set_level(level);
}

}  // namespace pangolin
