// A log that is appended to, and everything that may happen to it meanwhile.
#include "userspace/access_log/log_tail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "tests/support/random_seed.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class LogTailTest : public testing::Test {
  protected:
    std::vector<std::string> read() {
        std::vector<std::string> lines;
        Result<bool> result = true;
        while (result && *result)
            result = tail.read([&](std::string_view line) { lines.emplace_back(line); }, now);
        code = result ? 0 : result.error().code;
        return lines;
    }
    static void append(const std::string& file, const std::string& text) {
        std::ofstream(file, std::ios::app) << text;
    }

    ScratchFolder folder;
    std::string path = folder.path("access.log");
    LogTail tail{path};
    LogTail::Clock::time_point now = LogTail::Clock::now();
    int code = 0;
};

TEST_F(LogTailTest, SkipsWhatWasThereAndReadsWhatComes) {
    append(path, "old\nolder\n");
    EXPECT_THAT(read(), IsEmpty());
    append(path, "new\n");
    EXPECT_THAT(read(), ElementsAre("new"));
    EXPECT_THAT(read(), IsEmpty());
    append(path, "a\n\nb\n");
    EXPECT_THAT(read(), ElementsAre("a", "", "b"));
}

TEST_F(LogTailTest, AFileThatComesLaterIsReadFromItsBeginning) {
    EXPECT_THAT(read(), IsEmpty());
    EXPECT_EQ(code, ENOENT);
    append(path, "first\n");
    EXPECT_THAT(read(), ElementsAre("first"));
    EXPECT_EQ(code, 0);
}

TEST_F(LogTailTest, LinesComeInParts) {
    append(path, "half of a line that is histo");
    EXPECT_THAT(read(), IsEmpty());
    append(path, "ry\nhel");
    EXPECT_THAT(read(), IsEmpty());
    append(path, "lo");
    EXPECT_THAT(read(), IsEmpty());
    append(path, "\nwor");
    EXPECT_THAT(read(), ElementsAre("hello"));
    append(path, "ld\n");
    EXPECT_THAT(read(), ElementsAre("world"));
}

TEST_F(LogTailTest, RotationByRenaming) {
    append(path, "");
    read();
    append(path, "1\n");
    std::filesystem::rename(path, path + ".1");
    append(path + ".1", "2\npart");  // the writer does not know yet
    EXPECT_THAT(read(), ElementsAre("1", "2"));
    EXPECT_EQ(code, 0);
    append(path, "4\n");
    append(path + ".1", "ly 3\n");
    EXPECT_THAT(read(), ElementsAre("partly 3", "4"));
    // In one go, once more.
    std::filesystem::rename(path + ".1", path + ".2");
    std::filesystem::rename(path, path + ".1");
    append(path + ".1", "5\n");
    append(path, "6\n");
    EXPECT_THAT(read(), ElementsAre("5", "6"));
}

TEST_F(LogTailTest, ARotatedFileIsLeftWhenItHasLongNotGrown) {
    append(path, "");
    read();
    std::filesystem::rename(path, path + ".1");
    append(path, "");
    read();
    append(path + ".1", "late\n");
    now += 20s;
    EXPECT_THAT(read(), ElementsAre("late"));
    now += 31s;
    EXPECT_THAT(read(), IsEmpty());
    append(path + ".1", "too late\n");
    append(path, "new\n");
    EXPECT_THAT(read(), ElementsAre("new"));
    // One that nothing has replaced is missed then.
    std::filesystem::remove(path);
    now += 31s;
    EXPECT_THAT(read(), IsEmpty());
    read();
    EXPECT_EQ(code, ENOENT);
}

TEST_F(LogTailTest, RotationByCopyingAndTruncating) {
    append(path, "old\n");
    read();
    append(path, "1\nhalf");
    EXPECT_THAT(read(), ElementsAre("1"));
    std::filesystem::copy_file(path, path + ".1");
    std::filesystem::resize_file(path, 0);
    EXPECT_THAT(read(), IsEmpty());
    append(path, "2\n");
    EXPECT_THAT(read(), ElementsAre("2"));
    // Truncated and written to between two looks.
    std::filesystem::resize_file(path, 0);
    append(path, "3");
    EXPECT_THAT(read(), IsEmpty());
    append(path, "\n");
    EXPECT_THAT(read(), ElementsAre("3"));
}

TEST_F(LogTailTest, LongLinesAreCountedAndNotKept) {
    append(path, "");
    read();
    append(path, "a\n" + std::string(LogTail::longest_line, 'x') + "\n" +
                     std::string(LogTail::longest_line + 1, 'y'));
    EXPECT_THAT(read(), ElementsAre("a", std::string(LogTail::longest_line, 'x')));
    EXPECT_EQ(tail.too_long(), 1U);
    append(path, std::string(3 * LogTail::longest_line, 'y') + "\nb\n");
    EXPECT_THAT(read(), ElementsAre("b"));
    EXPECT_EQ(tail.too_long(), 1U);
}

TEST_F(LogTailTest, GoesOnInAnotherProcess) {
    append(path, "old\n");
    read();
    append(path, "1\nhalf");
    EXPECT_THAT(read(), ElementsAre("1"));
    const LogTail::Position position = tail.position();
    append(path, " of 2\n3\n");
    const auto next = [&] {
        std::vector<std::string> lines;
        LogTail other(path);
        other.resume(position);
        EXPECT_TRUE(other.read([&](std::string_view line) { lines.emplace_back(line); }));
        return lines;
    };
    EXPECT_THAT(next(), ElementsAre("half of 2", "3"));
    // Rotated meanwhile.
    std::filesystem::rename(path, path + ".1");
    append(path, "4\n");
    EXPECT_THAT(next(), ElementsAre("4"));
}

TEST_F(LogTailTest, OnlyFilesAreRead) {
    std::filesystem::create_directory(path);
    read();
    EXPECT_THAT(read(), IsEmpty());
    std::filesystem::remove(path);
    append(path, "1\n");
    EXPECT_THAT(read(), ElementsAre("1"));
}

// Whatever the order of writing, renaming and reading: each line once, in order within its file.
TEST_F(LogTailTest, EachLineOnceAtRandom) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(test::random_seed());
    append(path, "");
    read();
    std::vector<std::string> written;
    std::vector<std::string> found;
    const auto look = [&] {
        const auto lines = read();
        found.insert(found.end(), lines.begin(), lines.end());
    };
    std::string writers_file = path;
    for (int step = 0; step < 20'000; ++step) {
        const std::uint64_t choice = random() % 128;
        if (choice == 0 && writers_file == path) {
            look();  // a file that is renamed before anybody has seen it is lost
            writers_file = path + "." + std::to_string(step);
            std::filesystem::rename(path, writers_file);
        } else if (choice < 8 && writers_file != path) {
            writers_file = path;
            append(path, "");
        } else if (choice < 32) {
            look();
        } else {
            const std::string line = std::to_string(step);
            const std::size_t cut = random() % (line.size() + 1);
            append(writers_file, line.substr(0, cut));
            if (choice < 64)
                look();
            append(writers_file, line.substr(cut) + "\n");
            written.push_back(line);
        }
    }
    look();
    EXPECT_EQ(found, written);
}

}  // namespace
}  // namespace pangolin
