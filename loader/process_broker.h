// The exporter's end of the process broker (loader/broker), which looks into processes in its place.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/broker/protocol.h"

namespace pangolin {

// The namespace, of one kind, that a process is in: device and inode of its nsfs file.
struct ProcessNamespace {
    pid_t pid = 0;
    // 0, or the errno with which it could not be looked at.
    int error = 0;
    dev_t device = 0;
    ino_t inode = 0;
};

// Asks one broker, over a connection that is made when it is needed and again after it broke. An error is
// either the broker's (absent, silent, of another version: it never has the code ENOENT, has a hint, and the
// log says it once) or, with the broker's errno as its code, the process's: gone (ENOENT, ESRCH), or not to
// be looked into. Thread-safe; a question waits for others.
class ProcessBroker {
  public:
    // Where its socket unit makes the socket.
    static std::string usual_socket();

    explicit ProcessBroker(std::string socket,
                           std::chrono::milliseconds time_limit = std::chrono::seconds(2));

    const std::string& socket() const { return path_; }
    // Whether there is a socket to ask at, or was one.
    bool present();

    // The broker's own /proc: any user's files of all processes, and nothing else. Asked for once; the
    // descriptor stays open for the life of this object.
    Result<int> process_folder();
    Result<UniqueFd> open_network_namespace(pid_t pid);
    Result<UniqueFd> open_root_folder(pid_t pid);
    Result<std::string> working_directory(pid_t pid);
    // Of all processes, in their order; those that end meanwhile may be missing.
    Result<std::vector<ProcessNamespace>> network_namespaces();
    Result<std::vector<ProcessNamespace>> mount_namespaces();

  private:
    struct Reply {
        broker::Answer answer;
        std::string payload;
        UniqueFd descriptor;
    };

    Result<Reply> ask(broker::Question question, pid_t pid);
    // None: it may be asked again.
    std::optional<Error> recent_failure();
    Result<Reply> exchange(const broker::Request& request);
    Result<void> connect();
    Result<Reply> receive(const broker::Request& request);
    Result<UniqueFd> open(broker::Question question, pid_t pid, const char* what);
    Result<std::vector<ProcessNamespace>> list(broker::Question question);

    const std::string path_;
    const std::chrono::milliseconds time_limit_;
    // Of who asks, while he waits for the answer.
    std::mutex asking_;
    UniqueFd connection_;
    // Of all below; nobody waits with it.
    std::mutex mutex_;
    UniqueFd folder_;
    // As the log has it.
    enum class State : std::uint8_t { untried, answers, fails } state_ = State::untried;
    Error failed_;
    std::chrono::steady_clock::time_point failed_at_;
};

}  // namespace pangolin
