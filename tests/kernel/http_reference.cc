#include "tests/kernel/http_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <vector>

#include "bpf/shared/http.h"

namespace pangolin::test {
namespace {

using std::string;
using std::string_view;

enum class Verdict { more, bad, good };

// Unanswered requests of a connection that are told apart.
constexpr std::size_t pipeline = 16;

bool is_token(char c) {
    constexpr string_view others = "!#$%&'*+-.^_`|~";
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           others.find(c) != string_view::npos;
}

string lower(string_view text) {
    string result(text);
    std::ranges::transform(result, result.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return result;
}

string_view trim(string_view text, string_view blanks) {
    const auto begin = text.find_first_not_of(blanks);
    if (begin == string_view::npos)
        return {};
    return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::vector<string_view> split(string_view list) {
    std::vector<string_view> elements;
    while (true) {
        const auto comma = list.find(',');
        elements.push_back(trim(list.substr(0, comma), " \t\r"));
        if (comma == string_view::npos)
            return elements;
        list.remove_prefix(comma + 1);
    }
}

int method_of(string_view name) {
    static const std::map<string_view, int> methods{
        {"GET", HTTP_METHOD_GET},         {"HEAD", HTTP_METHOD_HEAD},     {"POST", HTTP_METHOD_POST},
        {"PUT", HTTP_METHOD_PUT},         {"DELETE", HTTP_METHOD_DELETE}, {"CONNECT", HTTP_METHOD_CONNECT},
        {"OPTIONS", HTTP_METHOD_OPTIONS}, {"TRACE", HTTP_METHOD_TRACE},   {"PATCH", HTTP_METHOD_PATCH}};
    const auto found = methods.find(name);
    return found == methods.end() ? HTTP_METHOD_OTHER : found->second;
}

struct Message {
    int method = HTTP_METHOD_OTHER;
    int status = 0;
    int minor = 1;
    bool is_preface = false;
    bool bad_framing = false;
    bool has_coding = false;
    bool chunked = false;
    bool event_stream = false;
    string upgrade;
    std::optional<std::uint64_t> length;
};

// RFC 9112 section 2.3, at the front of `text`, which loses it.
Verdict take_version(string_view& text, Message& message) {
    constexpr string_view name = "HTTP/1.";
    const std::size_t size = std::min(text.size(), name.size());
    if (text.substr(0, size) != name.substr(0, size))
        return Verdict::bad;
    if (text.size() <= name.size())
        return Verdict::more;
    const char digit = text[name.size()];
    if (digit < '0' || digit > '9')
        return Verdict::bad;
    message.minor = digit - '0';
    text.remove_prefix(name.size() + 1);
    return Verdict::good;
}

// Section 3.
Verdict take_request_line(string_view& text, Message& message) {
    const auto name_end = static_cast<std::size_t>(std::ranges::find_if_not(text, is_token) - text.begin());
    if (name_end == text.size())
        return Verdict::more;
    if (name_end == 0 || text[name_end] != ' ')
        return Verdict::bad;
    const string_view name = text.substr(0, name_end);
    message.method = method_of(name);
    // Until the version says that it is a method.
    message.is_preface = name == "PRI";
    text.remove_prefix(name_end + 1);
    const auto target =
        std::ranges::find_if(text, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; });
    if (target == text.end())
        return Verdict::more;
    if (target == text.begin() || *target != ' ')
        return Verdict::bad;
    text.remove_prefix(static_cast<std::size_t>(target - text.begin()) + 1);
    if (const Verdict version = take_version(text, message); version != Verdict::good)
        return version;
    if (text.starts_with('\r'))
        text.remove_prefix(1);
    if (text.empty())
        return Verdict::more;
    if (text.front() != '\n')
        return Verdict::bad;
    text.remove_prefix(1);
    message.is_preface = false;
    return Verdict::good;
}

// Section 4. The status is known as soon as its third digit is.
Verdict take_status_line(string_view& text, Message& message) {
    if (const Verdict version = take_version(text, message); version != Verdict::good)
        return version;
    if (text.empty())
        return Verdict::more;
    if (text.front() != ' ')
        return Verdict::bad;
    for (std::size_t i = 1; i <= 3; ++i) {
        if (i == text.size())
            return Verdict::more;
        if (text[i] < (i == 1 ? '1' : '0') || text[i] > '9')
            return Verdict::bad;
    }
    const int status = (text[1] - '0') * 100 + (text[2] - '0') * 10 + (text[3] - '0');
    text.remove_prefix(4);
    if (text.empty())
        return Verdict::more;
    if (string_view(" \r\n").find(text.front()) == string_view::npos)
        return Verdict::bad;
    message.status = status;
    const auto end = text.find('\n');
    if (end == string_view::npos)
        return Verdict::more;
    text.remove_prefix(end + 1);
    return Verdict::good;
}

void read_length(string_view value, Message& message) {
    for (const string_view element : split(value)) {
        std::uint64_t number = 0;
        bool fits = !element.empty();
        for (const char c : element) {
            fits = fits && c >= '0' && c <= '9' && number < std::uint64_t{1} << 59;
            number = number * 10 + static_cast<std::uint64_t>(c - '0');
        }
        if (!fits || (message.length && *message.length != number)) {
            message.bad_framing = true;
            return;
        }
        message.length = number;
    }
}

void read_field(string_view name, string_view value, bool is_request, Message& message) {
    if (name == "content-length") {
        read_length(value, message);
    } else if (name == "transfer-encoding") {
        message.has_coding = true;
        for (const string_view coding : split(value)) {
            if (!coding.empty())
                message.chunked = lower(coding) == "chunked";
        }
    } else if (name == "upgrade" && !is_request) {
        const auto begin = value.find_first_not_of(" \t");
        const string_view protocols = begin == string_view::npos ? "" : value.substr(begin);
        const string first = lower(protocols.substr(
            0, static_cast<std::size_t>(std::ranges::find_if_not(protocols, is_token) - protocols.begin())));
        if (first == "websocket" || message.upgrade.empty())
            message.upgrade = first == "websocket" || first == "h2c" ? first : "";
    } else if (name == "content-type" && !is_request) {
        constexpr string_view type = "text/event-stream";
        const auto begin = value.find_first_not_of(" \t");
        const string_view rest = begin == string_view::npos ? "" : value.substr(begin);
        if (lower(rest.substr(0, type.size())) == type &&
            (rest.size() == type.size() || (!is_token(rest[type.size()]) && rest[type.size()] != '/')))
            message.event_stream = true;
    }
}

// Section 5: field lines up to the empty one.
Verdict take_fields(string_view& text, bool is_request, Message& message) {
    bool before_said_length = false;
    while (true) {
        if (text.empty())
            return Verdict::more;
        if (text.front() == '\r') {
            if (text.size() == 1)
                return Verdict::more;
            if (text[1] != '\n')
                return Verdict::bad;
            text.remove_prefix(2);
            return Verdict::good;
        }
        if (text.front() == '\n') {
            text.remove_prefix(1);
            return Verdict::good;
        }
        const auto end = text.find('\n');
        if (end == string_view::npos)
            return Verdict::more;
        const string_view line = text.substr(0, end);
        text.remove_prefix(end + 1);
        if (line.front() == ' ' || line.front() == '\t') {
            message.bad_framing |= before_said_length;
            continue;
        }
        const auto name_end = line.find_first_of(": \t");
        const string name = lower(line.substr(0, name_end));
        before_said_length = false;
        if (name_end == string_view::npos)
            continue;
        const bool says_length = name == "content-length" || name == "transfer-encoding";
        if (line[name_end] != ':') {
            message.bad_framing |= says_length;
            continue;
        }
        before_said_length = says_length;
        read_field(name, line.substr(name_end + 1), is_request, message);
    }
}

// Section 7.1.
Verdict take_chunks(string_view& text) {
    while (true) {
        std::uint64_t size = 0;
        std::size_t digits = 0;
        while (digits < text.size()) {
            const auto digit = string_view("0123456789abcdef").find(lower(text.substr(digits, 1)));
            if (digit == string_view::npos)
                break;
            if (size >= std::uint64_t{1} << 59)
                return Verdict::bad;
            size = size * 16 + digit;
            ++digits;
        }
        if (digits == text.size())
            return Verdict::more;
        if (digits == 0 || string_view("\r\n; \t").find(text[digits]) == string_view::npos)
            return Verdict::bad;
        const auto end = text.find('\n', digits);
        if (end == string_view::npos)
            return Verdict::more;
        text.remove_prefix(end + 1);
        if (size == 0) {
            Message trailers;
            return take_fields(text, true, trailers);
        }
        if (text.size() <= size)
            return Verdict::more;
        text.remove_prefix(size);
        if (text.front() == '\r')
            text.remove_prefix(1);
        if (text.empty())
            return Verdict::more;
        if (text.front() != '\n')
            return Verdict::bad;
        text.remove_prefix(1);
    }
}

void skip_empty_lines(string_view& text) {
    text.remove_prefix(std::min(text.size(), text.find_first_not_of("\r\n")));
}

class Connection {
  public:
    HttpResult run(string_view requests, string_view responses) {
        read_requests(requests);
        if (!opaque_)
            read_responses(responses);
        abort();
        return result_;
    }

  private:
    void lose(http_loss reason) {
        if (!pending_.empty())
            result_.totals[reason] += pending_.size();
        pending_.clear();
    }

    // The connection ends without a word to what is asked.
    void abort() {
        result_.aborted += pending_.size();
        for (const int method : std::exchange(pending_, {}))
            result_.requests[{method, 0}] += 1;
    }

    void become_opaque(http_opaque kind) {
        lose(HTTP_LOSS_MALFORMED);
        result_.totals[static_cast<int>(http_opaque_index(kind))] += 1;
        opaque_ = true;
    }

    void read_requests(string_view text) {
        bool first = true;
        while (true) {
            skip_empty_lines(text);
            if (text.empty())
                return;
            if (!is_token(text.front()))
                return become_opaque(text.front() == 0x16 && first ? HTTP_OPAQUE_TLS : HTTP_OPAQUE_UNKNOWN);
            if (pending_.size() == pipeline) {
                lose(HTTP_LOSS_PIPELINE_FULL);
                return become_opaque(HTTP_OPAQUE_UNKNOWN);
            }
            first = false;
            if (!read_request(text))
                return;
        }
    }

    // False when the rest of the stream says nothing.
    bool read_request(string_view& text) {
        Message message;
        Verdict head = take_request_line(text, message);
        if (head == Verdict::good)
            head = take_fields(text, true, message);
        if (head == Verdict::bad) {
            become_opaque(message.is_preface ? HTTP_OPAQUE_H2C : HTTP_OPAQUE_UNKNOWN);
            return false;
        }
        pending_.push_back(head == Verdict::good ? message.method : HTTP_METHOD_OTHER);
        if (head == Verdict::more || message.bad_framing)
            return false;
        if (message.has_coding)
            return message.minor != 0 && message.chunked && take_chunks(text) == Verdict::good;
        const std::uint64_t length = message.length.value_or(0);
        if (length > text.size())
            return false;
        text.remove_prefix(length);
        return true;
    }

    void finish(const Message& message, std::size_t size) {
        if (message.status != 101 && !message.event_stream)
            result_.durations[pending_.front()] += 1;
        answer(message, size);
    }

    void answer(const Message& message, std::size_t size) {
        result_.requests[{pending_.front(), message.status}] += 1;
        result_.responses += 1;
        result_.response_bytes += size;
        pending_.pop_front();
    }

    // The connection ends in the middle of the body: false.
    bool cut_off(const Message& message, std::size_t size) {
        result_.aborted += 1;
        answer(message, size);
        return false;
    }

    void read_responses(string_view text) {
        while (true) {
            skip_empty_lines(text);
            if (text.empty())
                return;
            if (pending_.empty()) {
                result_.totals[HTTP_LOSS_UNSOLICITED] += 1;
                return;
            }
            if (!read_response(text))
                return;
        }
    }

    // A response whose end cannot be told ends with the connection, if it is the last.
    bool finish_at_end(const Message& message, std::size_t size) {
        if (pending_.size() > 1)
            return cut_off(message, size);
        finish(message, size);
        return false;
    }

    bool read_response(string_view& text) {
        const std::size_t before = text.size();
        Message message;
        Verdict head = take_status_line(text, message);
        const bool has_status = message.status >= 200;
        if (head == Verdict::good)
            head = take_fields(text, false, message);
        if (head == Verdict::bad) {
            if (has_status)
                return finish_at_end(message, before);
            lose(HTTP_LOSS_MALFORMED);
            return false;
        }
        if (head == Verdict::more)
            return false;
        const int method = pending_.front();
        const auto size = [&] { return before - text.size(); };
        if (message.status == 101) {
            finish(message, size());
            if (message.upgrade != "websocket")
                become_opaque(message.upgrade == "h2c" ? HTTP_OPAQUE_H2C : HTTP_OPAQUE_TUNNEL);
            else
                abort();
            return false;
        }
        if (message.status < 200)
            return true;
        if (method == HTTP_METHOD_CONNECT && message.status < 300) {
            finish(message, size());
            become_opaque(HTTP_OPAQUE_TUNNEL);
            return false;
        }
        return read_body(text, message, before);
    }

    // Section 6.3.
    bool read_body(string_view& text, const Message& message, std::size_t before) {
        const bool until_close =
            message.has_coding ? !message.chunked || message.minor == 0 : !message.length;
        if (pending_.front() == HTTP_METHOD_HEAD || message.status == 204 || message.status == 304) {
            finish(message, before - text.size());
            return true;
        }
        if (message.bad_framing)
            return finish_at_end(message, before);
        if (until_close) {
            finish(message, before);
            return false;
        }
        if (message.has_coding) {
            const Verdict verdict = take_chunks(text);
            if (verdict == Verdict::bad)
                return finish_at_end(message, before);
            if (verdict == Verdict::more)
                return cut_off(message, before);
        } else {
            if (*message.length > text.size())
                return cut_off(message, before);
            text.remove_prefix(*message.length);
        }
        finish(message, before - text.size());
        return true;
    }

    HttpResult result_;
    std::deque<int> pending_;
    bool opaque_ = false;
};

}  // namespace

HttpResult read_http(string_view requests, string_view responses) {
    return Connection().run(requests, responses);
}

string describe(const HttpResult& result) {
    string text;
    for (const auto& [key, count] : result.requests)
        text += fmt::format("method {} status {}: {}; ", key.first, key.second, count);
    for (const auto& [method, count] : result.durations)
        text += fmt::format("durations of {}: {}; ", method, count);
    for (const auto& [index, count] : result.totals)
        text += fmt::format("total {}: {}; ", index, count);
    return text + fmt::format("responses {} of {} bytes; aborted {}; open {} and {}", result.responses,
                              result.response_bytes, result.aborted, result.open_requests,
                              result.open_websockets);
}

}  // namespace pangolin::test
