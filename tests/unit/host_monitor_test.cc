#include "userspace/host/host_monitor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "loader/pangolin_process.h"
#include "loader/process_table.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A process that does nothing until it is ended. A script's name becomes the process's, its arguments stay.
class Process {
  public:
    Process(const std::string& program, const std::string& argument) {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0)
            throw std::runtime_error("no pipe");
        input_ = UniqueFd(ends[1]);
        const UniqueFd read_end(ends[0]);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(read_end.get(), STDIN_FILENO);
            ::execl(program.c_str(), program.c_str(), argument.c_str(), nullptr);
            ::_exit(127);
        }
        const std::string name = std::filesystem::path(program).filename();
        for (int i = 0; i < 1000 && process_name(pid_) != name; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    pid_t pid() const { return pid_; }

  private:
    UniqueFd input_;
    pid_t pid_ = -1;
};

class HostMonitorTest : public testing::Test {
  protected:
    void SetUp() override {
        program = folder.write("bin/traefik",
                               "#!/bin/sh\ncd \"$(dirname \"$0\")/..\"\necho > started\nread -r line\n");
        ASSERT_EQ(::chmod(program.c_str(), 0700), 0);
        configuration = folder.write("traefik_config.yml",
                                     "Experimental:\n  plugins:\n    badger:\n      moduleName: "
                                     "github.com/fosrl/badger\n      version: v1.6.1\n    geo:\n"
                                     "      modulename: example.com/geo\n");
    }
    std::unique_ptr<Process> start_traefik() const {
        std::filesystem::remove(folder.path("started"));
        auto process = std::make_unique<Process>(program, "--configFile=" + configuration);
        // It is in its working directory.
        for (int i = 0; i < 1000 && !std::filesystem::exists(folder.path("started")); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return process;
    }
    // As a fetch leaves it.
    void unpack(const std::string& module) const {
        folder.write("plugins-storage/sources/gop-123/src/" + module + "/.traefik.yml", "type: middleware\n");
    }
    void clear_storage() const {
        std::filesystem::remove_all(folder.path("plugins-storage"));
        std::filesystem::create_directories(folder.path("plugins-storage/sources"));
    }
    // "succeeded failed".
    static std::string fetches(const HostMonitor& monitor, const char* plugin) {
        Snapshot snapshot;
        monitor.describe(snapshot);
        const auto found = snapshot.host.plugins.find(plugin);
        return found == snapshot.host.plugins.end()
                   ? "unknown"
                   : std::to_string(found->second.succeeded) + " " + std::to_string(found->second.failed);
    }

    ScratchFolder folder;
    std::string program;
    std::string configuration;
};

std::optional<ProcessIdentity> nobody() {
    return std::nullopt;
}

TEST_F(HostMonitorTest, CountsWhatAStartOfTraefikFetched) {
    HostMonitor monitor(nobody);
    auto traefik = start_traefik();
    unpack("github.com/fosrl/badger");
    monitor.look();
    // It ran before: what it did is not known.
    EXPECT_EQ(fetches(monitor, "badger"), "0 0");
    EXPECT_EQ(fetches(monitor, "geo"), "0 0");
    traefik = start_traefik();
    monitor.look();
    // The last run's storage may still be there.
    EXPECT_EQ(fetches(monitor, "badger"), "0 0");
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    monitor.look();
    // Not all of them yet.
    EXPECT_EQ(fetches(monitor, "badger"), "0 0");
    unpack("example.com/geo");
    monitor.look();
    monitor.look();
    EXPECT_EQ(fetches(monitor, "badger"), "1 0");
    EXPECT_EQ(fetches(monitor, "geo"), "1 0");

    traefik = start_traefik();
    monitor.look();
    clear_storage();
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    monitor.look();
    EXPECT_EQ(fetches(monitor, "badger"), "1 0");
    monitor.look();
    monitor.look();
    EXPECT_EQ(fetches(monitor, "badger"), "1 1");
    EXPECT_EQ(fetches(monitor, "geo"), "1 1");
}

TEST_F(HostMonitorTest, CountsStartsOfPangolinAfterTheFirst) {
    std::optional<ProcessIdentity> pangolin;
    HostMonitor monitor([&] { return pangolin; });
    const auto restarts = [&] {
        Snapshot snapshot;
        monitor.look();
        monitor.describe(snapshot);
        return snapshot.host.pangolin_restarts;
    };
    EXPECT_FALSE(restarts());
    pangolin = {7, 100};
    EXPECT_EQ(restarts(), 0U);
    EXPECT_EQ(restarts(), 0U);
    pangolin.reset();
    EXPECT_EQ(restarts(), 0U);
    pangolin = {7, 100};
    EXPECT_EQ(restarts(), 0U);
    // The same number, another process: a container's first one.
    pangolin = {7, 200};
    EXPECT_EQ(restarts(), 1U);
    pangolin = {8, 300};
    EXPECT_EQ(restarts(), 2U);
}

// Node, as Pangolin runs on it, listening on the ports by which it is found.
TEST_F(HostMonitorTest, CountsRestartsOfARealNode) {
    const std::string node = "/usr/bin/node";
    if (::access(node.c_str(), X_OK) != 0)
        GTEST_SKIP() << "Node is not installed";
    const PangolinPorts ports{.external = 39'311, .internal = 39'312};
    const std::string script =
        folder.write("server.mjs",
                     "import net from 'node:net';\n"
                     "for (const port of [39311, 39312]) net.createServer().listen(port, '127.0.0.1');\n");
    PangolinProcessFinder finder(ports, std::chrono::milliseconds(0));
    HostMonitor monitor([&]() -> std::optional<ProcessIdentity> {
        const auto found = finder.find();
        return found ? std::optional(ProcessIdentity{found->pid, found->start_time}) : std::nullopt;
    });
    const auto restarts = [&] {
        Snapshot snapshot;
        monitor.look();
        monitor.describe(snapshot);
        return snapshot.host.pangolin_restarts;
    };
    const auto listens = [&](const Process& process) {
        for (int i = 0; i < 2000; ++i) {
            PangolinProcessFinder fresh(ports);
            if (const auto found = fresh.find(); found && found->pid == process.pid())
                return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        return false;
    };
    auto process = std::make_unique<Process>(node, script);
    ASSERT_TRUE(listens(*process));
    EXPECT_EQ(restarts(), 0U);
    for (std::uint64_t count = 1; count <= 2; ++count) {
        process.reset();
        EXPECT_EQ(restarts(), count - 1);
        process = std::make_unique<Process>(node, script);
        ASSERT_TRUE(listens(*process));
        EXPECT_EQ(restarts(), count);
    }
}

TEST_F(HostMonitorTest, LinksOfAContainerStayInIt) {
    // The process's root is this one's: a link below it is followed.
    const auto traefik = start_traefik();
    const ProcessFiles files(traefik->pid());
    folder.write("real.yml", "text");
    std::filesystem::create_symlink("real.yml", folder.path("link.yml"));
    EXPECT_EQ(files.read("link.yml", 100), "text");
    EXPECT_EQ(files.read(folder.path("link.yml"), 2), "text");
    EXPECT_EQ(files.read("absent", 100), "");
    EXPECT_FALSE(files.exists("absent"));
    EXPECT_FALSE(ProcessFiles(0x7ffffff).exists("/"));
}

TEST(TraefikPlugins, InEitherFormOfConfiguration) {
    EXPECT_THAT(
        plugins_in_configuration(
            "experimental: {plugins: {a: {moduleName: m/a}, b: {version: 1}, c: text, '': {moduleName: x}}}"),
        ElementsAre(TraefikPlugin{"a", "m/a"}));
    for (const char* text : {"", "[", "experimental: 5", "experimental: {plugins: []}", "a: {b: [}"})
        EXPECT_THAT(plugins_in_configuration(text), IsEmpty()) << text;
    std::string many = "experimental:\n  plugins:\n";
    for (int i = 0; i < 100; ++i)
        many += "    p" + std::to_string(i) + ": {moduleName: m}\n";
    EXPECT_EQ(plugins_in_configuration(many).size(), most_plugins);
    EXPECT_THAT(plugins_in_arguments(
                    {"traefik", "--experimental.plugins.badger.moduleName=github.com/fosrl/badger",
                     "--experimental.plugins.badger.version=v1", "--EXPERIMENTAL.PLUGINS.x.modulename=y",
                     "--experimental.plugins.z.modulename=", "--experimental.plugins..modulename=q",
                     "--experimental.plugins.modulename"}),
                ElementsAre(TraefikPlugin{"badger", "github.com/fosrl/badger"}, TraefikPlugin{"x", "y"}));
}

}  // namespace
}  // namespace pangolin
