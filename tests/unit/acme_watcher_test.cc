// Traefik's writing of acme.json, and everything that may happen to a file meanwhile.
#include "userspace/certificates/acme_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "tests/support/certificates.h"
#include "tests/support/random_seed.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr std::int64_t expiry = 1'800'000'000;

class AcmeWatcherTest : public testing::Test {
  protected:
    void start() {
        watcher.emplace(path, ledger);
        watcher->start();
    }
    // As os.WriteFile does it.
    void rewrite(const std::string& text) const { std::ofstream(path, std::ios::trunc) << text; }
    void replace(const std::string& text) const {
        std::ofstream(path + ".new") << text;
        std::filesystem::rename(path + ".new", path);
    }
    static std::string file(const std::string& domain, std::int64_t not_after) {
        return acme_json({{domain, {}, make_certificate({{domain}, not_after})}}, "a2V5");
    }
    std::int64_t not_after(const std::string& domain) const {
        const auto book = ledger.snapshot().book;
        const Certificate* const found = book ? book->find(domain) : nullptr;
        return found ? found->not_after : 0;
    }
    std::uint64_t events(const std::string& domain, CertificateEvent event) const {
        const auto counts = ledger.snapshot().events;
        return counts && counts->contains(domain) ? counts->at(domain)[static_cast<std::size_t>(event)] : 0;
    }
    static bool soon(const std::function<bool()>& condition, milliseconds patience = milliseconds(8000)) {
        const auto end = std::chrono::steady_clock::now() + patience;
        while (!condition() && std::chrono::steady_clock::now() < end)
            std::this_thread::sleep_for(milliseconds(5));
        return condition();
    }

    ScratchFolder folder;
    std::string path = folder.path("acme.json");
    CertificateLedger ledger;
    std::optional<AcmeWatcher> watcher;
};

TEST_F(AcmeWatcherTest, SeesRewritingAndReplacing) {
    rewrite(file("a.example", expiry));
    start();
    EXPECT_TRUE(watcher->status().up);
    EXPECT_EQ(not_after("a.example"), expiry);
    const auto begin = std::chrono::steady_clock::now();
    rewrite(file("a.example", expiry + 1));
    EXPECT_TRUE(soon([&] { return not_after("a.example") == expiry + 1; }));
    replace(file("a.example", expiry + 2));
    EXPECT_TRUE(soon([&] { return not_after("a.example") == expiry + 2; }));
    // It was told, and did not just happen to look.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(5000));
    EXPECT_EQ(events("a.example", CertificateEvent::renewed), 2U);
    EXPECT_EQ(events("a.example", CertificateEvent::issued), 0U);
    EXPECT_EQ(events("a.example", CertificateEvent::removed), 0U);
}

TEST_F(AcmeWatcherTest, AFileAndItsFolderMayComeLater) {
    path = folder.path("letsencrypt/acme.json");
    start();
    EXPECT_FALSE(watcher->status().up);
    EXPECT_THAT(watcher->status().error, HasSubstr("letsencrypt/acme.json"));
    EXPECT_FALSE(ledger.snapshot().book);
    std::filesystem::create_directory(folder.path("letsencrypt"));
    rewrite("");
    EXPECT_TRUE(soon([&] { return watcher->status().up; }, milliseconds(15'000)));
    rewrite(file("a.example", expiry));
    EXPECT_TRUE(soon([&] { return not_after("a.example") == expiry; }));
    EXPECT_EQ(events("a.example", CertificateEvent::issued), 1U);
}

TEST_F(AcmeWatcherTest, AHalfWrittenFileLeavesTheLastGoodOne) {
    const std::string next = file("a.example", expiry + 1);
    rewrite(file("a.example", expiry));
    start();
    {
        std::ofstream slow(path, std::ios::trunc);
        slow << next.substr(0, next.size() / 2) << std::flush;
        std::this_thread::sleep_for(milliseconds(500));
        EXPECT_TRUE(watcher->status().up);
        EXPECT_EQ(not_after("a.example"), expiry);
        slow << next.substr(next.size() / 2);
    }
    EXPECT_TRUE(soon([&] { return not_after("a.example") == expiry + 1; }));
    EXPECT_EQ(events("a.example", CertificateEvent::renewed), 1U);
}

TEST_F(AcmeWatcherTest, WhatStaysBrokenIsNotPublished) {
    rewrite(file("a.example", expiry));
    start();
    rewrite("{\"letsencrypt\":");
    EXPECT_TRUE(soon([&] { return !watcher->status().up; }));
    EXPECT_THAT(watcher->status().error, HasSubstr("not the JSON that Traefik writes"));
    EXPECT_FALSE(ledger.snapshot().book);
    std::filesystem::remove(path);
    EXPECT_TRUE(soon([&] { return watcher->status().error.find("No such file") != std::string::npos; }));
    rewrite(file("a.example", expiry));
    EXPECT_TRUE(soon([&] { return watcher->status().up; }));
    EXPECT_EQ(events("a.example", CertificateEvent::removed), 0U);
    EXPECT_EQ(events("a.example", CertificateEvent::issued), 0U);
}

TEST_F(AcmeWatcherTest, AFileThatStaysEmptyHasNoCertificates) {
    rewrite(file("a.example", expiry));
    start();
    rewrite("");
    EXPECT_TRUE(soon([&] { return events("a.example", CertificateEvent::removed) == 1; }));
    EXPECT_TRUE(watcher->status().up);
    EXPECT_EQ(not_after("a.example"), 0);
}

TEST_F(AcmeWatcherTest, OddThingsInItsPlaceAreErrors) {
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    start();
    EXPECT_THAT(watcher->status().error, HasSubstr("not a regular file"));
    watcher.reset();
    std::filesystem::remove(path);
    rewrite("x");
    std::filesystem::resize_file(path, (64U << 20) + 1);
    start();
    EXPECT_THAT(watcher->status().error, HasSubstr("more than 64 MiB"));
}

// Whatever the interleaving of writes and looks, the end is the file's, and nothing is ever taken for gone.
TEST_F(AcmeWatcherTest, ManyWritesEndWithTheLastOne) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(test::random_seed());
    std::vector<std::string> contents;
    for (int i = 0; i < 8; ++i)
        contents.push_back(file("a.example", expiry + i));
    rewrite(contents[0]);
    start();
    std::int64_t last = 0;
    for (int i = 0; i < 300; ++i) {
        last = static_cast<std::int64_t>(random() % contents.size());
        const std::string& text = contents[static_cast<std::size_t>(last)];
        switch (random() % 3) {
            case 0:
                replace(text);
                break;
            case 1:
                rewrite(text);
                break;
            default: {
                std::ofstream slow(path, std::ios::trunc);
                slow << text.substr(0, random() % text.size()) << std::flush;
                std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
                slow.seekp(0);
                slow << text;
            }
        }
        if (random() % 4 == 0)
            std::this_thread::sleep_for(milliseconds(random() % 40));
    }
    EXPECT_TRUE(soon([&] { return not_after("a.example") == expiry + last; }));
    EXPECT_TRUE(watcher->status().up);
    EXPECT_EQ(events("a.example", CertificateEvent::removed), 0U);
    EXPECT_EQ(events("a.example", CertificateEvent::issued), 0U);
    EXPECT_GE(events("a.example", CertificateEvent::renewed), 1U);
}

}  // namespace
}  // namespace pangolin
