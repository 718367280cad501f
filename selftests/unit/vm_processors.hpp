/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The processors whose nested tables a VM may have, and tests that are run on each of them. A test's body
 * is a member of a template over the processor; in GoogleTest's lists it stands as Suite/Processor.Name.
 */
#pragma once
#include <string>
#include "vm_guest.hpp"

namespace kx::test {

struct Npt {
	using Format = LongMode;
	static constexpr const char *name = "Npt";
	static constexpr bool ad_bits = true, pml = false;
};
struct EptWithAd {
	using Format = Ept;
	static constexpr const char *name = "Ept";
	static constexpr bool ad_bits = true, pml = false;
};
struct EptWithoutAd {
	using Format = Ept;
	static constexpr const char *name = "EptWithoutAd";
	static constexpr bool ad_bits = false, pml = false;
};

struct EptWithPml {
	using Format = Ept;
	static constexpr const char *name = "EptWithPml";
	static constexpr bool ad_bits = true, pml = true;
};

template <class P> TestOptions on_processor(TestOptions o = {})
{
	o.caps.ad_bits = P::ad_bits;
	o.caps.pml = P::pml;
	return o;
}

inline bool is_uncached(LongMode, u64 e) { return LongMode::Pcd::test(e); }
inline bool is_uncached(Ept, u64 e) { return Ept::Type::get(e) == Ept::uncached; }

template <class... P> struct On {
	template <template <class> class Test> static int add(const char *suite, const char *name, const char *file, int line)
	{
		(testing::RegisterTest((std::string{suite} + '/' + P::name).c_str(), name, nullptr, nullptr, file, line,
				       [] { return static_cast<typename Test<P>::Fixture *>(new Test<P>); }),
		 ...);
		return 0;
	}
};
using EveryProcessor = On<Npt, EptWithAd, EptWithoutAd, EptWithPml>;
using ThoseWithAd = On<Npt, EptWithAd, EptWithPml>;
using ThoseWithoutAd = On<EptWithoutAd>;
using ThoseWithPml = On<EptWithPml>;

}

/* fixture: a template over the processor, with a member Fixture that names itself; then the processors, and
 * the members of the fixture that the body uses by name. */
#define KX_TEST_ON(fixture, suite, title, processors, ...)                                                        \
	template <class P> struct suite##_##title : fixture<P> {                                                  \
		__VA_ARGS__                                                                                      \
		void TestBody() override;                                                                        \
	};                                                                                                       \
	[[maybe_unused]] static const int suite##_##title##_is_listed =                                           \
		kx::test::processors::add<suite##_##title>(#suite, #title, __FILE__, __LINE__);                    \
	template <class P> void suite##_##title<P>::TestBody()
