// Containers as their engines leave them on disk. Only a process that is really in a container's cgroup
// counts as its process.
#include "loader/container_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "loader/process_table.h"
#include "tests/support/namespace_child.h"
#include "tests/support/privileges.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string id_a(64, 'a');
const std::string id_b(64, 'b');

class ContainerLookup : public testing::Test {
  protected:
    void write(const std::string& path, const std::string& content) const { scratch_.write(path, content); }
    ContainerFolders folders() const {
        return {{scratch_.path("nowhere"), scratch_.path("docker")},
                scratch_.path("podman"),
                scratch_.path("run")};
    }

  private:
    ScratchFolder scratch_;
};

TEST(ContainerIdInCgroup, KnowsTheEnginesWays) {
    EXPECT_EQ(container_id_in_cgroup("0::/system.slice/docker-" + id_a + ".scope\n"), id_a);
    EXPECT_EQ(container_id_in_cgroup("12:pids:/docker/" + id_a + "\n0::/docker/" + id_a + "\n"), id_a);
    EXPECT_EQ(container_id_in_cgroup("0::/machine.slice/libpod-" + id_b + ".scope/container\n"), id_b);
    EXPECT_EQ(container_id_in_cgroup("0::/machine.slice/libpod-conmon-" + id_b + ".scope\n"), "");
    EXPECT_EQ(container_id_in_cgroup("0::/../" + id_a), id_a);
    EXPECT_EQ(container_id_in_cgroup("0::/user.slice/user-0.slice/session-1.scope\n"), "");
    EXPECT_EQ(container_id_in_cgroup("0::/" + id_a + "f\n"), "");
    EXPECT_EQ(container_id_in_cgroup(""), "");
}

TEST_F(ContainerLookup, TellsAStoppedDockerContainerFromAnUnknownOne) {
    write("docker/containers/" + id_a + "/config.v2.json",
          R"({"StreamConfig":{},"State":{"Running":false,"Pid":0},"ID":")" + id_a +
              R"(","Config":{"Env":["TOKEN=secret"],"Name":"wrong"},"Name":"/gerbil"})");
    write("docker/containers/" + id_b + "/config.v2.json", R"({"Name":"/traefik)");
    const auto stopped = find_container("gerbil", folders());
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, ESRCH);
    EXPECT_THAT(stopped.error().message(), AllOf(HasSubstr("'gerbil' is not running"), HasSubstr("HINT")));
    const auto unknown = find_container("pangolin", folders());
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, ENOENT);
    EXPECT_THAT(unknown.error().hint, HasSubstr("Known containers: gerbil."));
}

TEST_F(ContainerLookup, DoesNotTrustAProcessThatIsInAnotherCgroup) {
    write("docker/containers/" + id_a + "/config.v2.json",
          R"({"Name":"/gerbil","State":{"Running":true,"Pid":)" + std::to_string(getpid()) + "}}");
    const auto found = find_container("gerbil", folders());
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, ESRCH);
}

TEST_F(ContainerLookup, FindsPodmansNames) {
    write("podman/overlay-containers/containers.json",
          R"([{"id":")" + id_a + R"(","names":["gerbil"],"layer":"x"}])");
    write("podman/overlay-containers/volatile-containers.json",
          R"([5,{"names":[]},{"id":")" + id_b + R"(","names":["traefik"]}])");
    write("podman/vfs-containers/containers.json",
          R"([{"id":")" + std::string(64, 'c') + R"(","names":["pangolin"]}])");
    write("run/overlay-containers/" + id_a + "/userdata/pidfile", std::to_string(getpid()));
    for (const char* name : {"gerbil", "traefik", "pangolin"}) {
        const auto found = find_container(name, folders());
        ASSERT_FALSE(found);
        EXPECT_EQ(found.error().code, ESRCH) << name;
    }
    EXPECT_THAT(find_container("newt", folders()).error().hint, HasSubstr("gerbil, traefik, pangolin"));
}

TEST_F(ContainerLookup, HintsWhenNothingCanBeSeen) {
    const auto found = find_container("gerbil", folders());
    ASSERT_FALSE(found);
    EXPECT_THAT(found.error().hint, HasSubstr("/var/lib/docker"));
}

// Where cgroup v2 is mounted; empty when it is not.
std::string cgroup_root() {
    std::ifstream mounts("/proc/mounts");
    for (std::string line; std::getline(mounts, line);) {
        std::string device, folder, type;
        std::istringstream(line) >> device >> folder >> type;
        if (type == "cgroup2")
            return folder;
    }
    return {};
}

// A process in a cgroup of its own.
class ContainedProcess {
  public:
    explicit ContainedProcess(const std::string& cgroup) : folder_(cgroup_root() + "/" + cgroup) {
        std::error_code error;
        std::filesystem::create_directory(folder_, error);
        std::ofstream(folder_ + "/cgroup.procs") << child_.pid();
    }
    ContainedProcess(const ContainedProcess&) = delete;
    ContainedProcess& operator=(const ContainedProcess&) = delete;
    ~ContainedProcess() {
        child_.end();
        std::error_code error;
        std::filesystem::remove(folder_, error);
    }
    pid_t pid() const { return child_.pid(); }

  private:
    std::string folder_;
    test::NamespaceChild child_;
};

std::string unique_id(char fill) {
    const std::string digits = std::to_string(getpid());
    return digits + std::string(64 - digits.size(), fill);
}

TEST_F(ContainerLookup, FindsARunningDockerContainer) {
    PANGOLIN_REQUIRE_ROOT();
    const std::string id = unique_id('d');
    const ContainedProcess process("docker-" + id + ".scope");
    write("docker/containers/" + id + "/config.v2.json",
          R"({"Config":{"Env":["A=b"]},"Name":"/gerbil","State":{"Pid":)" + std::to_string(process.pid()) +
              "}}");
    const auto found = find_container("gerbil", folders());
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->pid, process.pid());
    EXPECT_EQ(container_name_of(process.pid(), folders()), "gerbil");
    EXPECT_EQ(container_name_of(getpid(), folders()), "");
}

TEST_F(ContainerLookup, FindsARunningPodmanContainerWithAndWithoutItsPidFile) {
    PANGOLIN_REQUIRE_ROOT();
    const std::string id = unique_id('e');
    const ContainedProcess process("libpod-" + id + ".scope");
    write("podman/overlay-containers/containers.json", R"([{"id":")" + id + R"(","names":["gerbil"]}])");
    const auto by_cgroup = find_container("gerbil", folders());
    ASSERT_TRUE(by_cgroup) << by_cgroup.error().message();
    EXPECT_EQ(by_cgroup->pid, process.pid());
    write("run/vfs-containers/" + id + "/userdata/pidfile", std::to_string(process.pid()) + "\n");
    const auto by_file = find_container("gerbil", folders());
    ASSERT_TRUE(by_file) << by_file.error().message();
    EXPECT_EQ(by_file->pid, process.pid());
    EXPECT_EQ(container_name_of(process.pid(), folders()), "gerbil");
}

TEST(RunningContainer, IsToldFromALaterProcessOfItsNumber) {
    const auto start_time = process_start_time(getpid());
    ASSERT_TRUE(start_time.has_value());
    EXPECT_TRUE((RunningContainer{getpid(), start_time.value_or(0)}.still_running()));
    EXPECT_FALSE((RunningContainer{getpid(), start_time.value_or(0) + 1}.still_running()));
    EXPECT_FALSE((RunningContainer{1 << 30, 1}.still_running()));
}

}  // namespace
}  // namespace pangolin
