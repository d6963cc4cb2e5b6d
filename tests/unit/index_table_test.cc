#include "userspace/index_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/random_seed.h"

namespace pangolin::test {
namespace {

using Table = IndexTable<std::string, int>;

bool list(Table& table, const std::vector<std::string>& keys) {
    table.begin_listing();
    for (const std::string& key : keys)
        table.see(key);
    return table.end_listing();
}

std::map<std::string, std::uint32_t> indexes(const Table& table) {
    std::map<std::string, std::uint32_t> result;
    table.for_each_listed(
        [&](const std::string& key, const Table::Element& element) { result[key] = element.index; });
    return result;
}

void retire(Table& table) {
    table.retire_unlisted([](const std::string&, Table::Element&) {});
}

TEST(IndexTable, TellsWhetherAListingDiffers) {
    struct Step {
        const char* what;
        std::vector<std::string> keys;
        bool retire_first;
        bool changed;
    };
    const Step steps[] = {
        {"nothing yet", {}, false, false},
        {"two", {"a", "b"}, false, true},
        {"the same", {"b", "a"}, false, false},
        {"one goes", {"a"}, false, true},
        {"still gone", {"a"}, false, false},
        {"comes back before it was retired", {"a", "b"}, false, true},
        {"one for another", {"a", "c"}, false, true},
        {"and back, one retired", {"a", "b"}, true, true},
        {"all go", {}, true, true},
        {"nothing again", {}, true, false},
    };
    Table table(1, 10);
    for (const Step& step : steps) {
        if (step.retire_first)
            retire(table);
        EXPECT_EQ(list(table, step.keys), step.changed) << step.what;
    }
}

TEST(IndexTable, AnIndexIsFreeOnlyOnceItWasRetired) {
    Table table(1, 10);
    list(table, {"a", "b"});
    const auto first = indexes(table);
    list(table, {"b"});
    list(table, {"b", "c"});
    EXPECT_EQ(indexes(table).at("c"), 3U) << "what comes late for a is not c's";
    EXPECT_EQ(indexes(table).at("b"), first.at("b"));
    std::vector<std::string> gone;
    table.retire_unlisted([&](const std::string& key, const Table::Element& element) {
        gone.push_back(key);
        EXPECT_EQ(element.index, first.at("a"));
    });
    EXPECT_THAT(gone, testing::ElementsAre("a"));
    list(table, {"b", "c", "d"});
    EXPECT_EQ(indexes(table).at("d"), first.at("a"));
    EXPECT_EQ(table.indexes_needed(), 4U);
}

TEST(IndexTable, CountsWhatFindsNoPlaceOnce) {
    Table table(1, 2);
    list(table, {"a", "b", "c", "d"});
    EXPECT_EQ(table.refused(), 2U);
    EXPECT_EQ(table.refused_now(), 2U);
    EXPECT_FALSE(list(table, {"a", "b", "c", "d"}));
    EXPECT_EQ(table.refused(), 2U) << "the same two";
    EXPECT_TRUE(list(table, {"b", "c"}));
    EXPECT_EQ(table.refused_now(), 1U) << "a has not been retired";
    retire(table);
    EXPECT_TRUE(list(table, {"b", "c"}));
    EXPECT_EQ(table.refused_now(), 0U);
    list(table, {"b", "c", "d"});
    EXPECT_EQ(table.refused(), 3U);
}

// No two at a time have one index, none changes it, and they stay dense.
TEST(IndexTable, IndexesAreNeverSharedWhateverComesAndGoes) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    Table table(1, 1000);
    std::map<std::string, std::uint32_t> known;
    std::size_t most = 0;
    for (int round = 0; round < 300; ++round) {
        std::vector<std::string> keys;
        for (int key = 0; key < 60; ++key)
            if (random() % 2 == 0)
                keys.push_back(std::to_string(key));
        list(table, keys);
        std::set<std::uint32_t> used;
        table.for_each([&](const std::string& key, Table::Element& element) {
            EXPECT_TRUE(used.insert(element.index).second) << key;
            const auto [entry, is_new] = known.emplace(key, element.index);
            EXPECT_EQ(entry->second, element.index) << key;
        });
        most = std::max(most, table.size());
        if (random() % 3 == 0)
            table.retire_unlisted([&](const std::string& key, Table::Element&) { known.erase(key); });
        EXPECT_EQ(indexes(table).size(), keys.size());
    }
    EXPECT_EQ(table.indexes_needed(), most + 1);
}

}  // namespace
}  // namespace pangolin::test
