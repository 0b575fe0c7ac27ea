# Waves: a dp/dt + div q = s, dq/dt = -b grad p, by leapfrog steps on a staggered grid:
#
#     q^(n+1/2) = hold q^(n-1/2) - push (p_up - p),
#     p^(n+1)   = keep p^n + pull (s - sum_d share_d (q_d - q_d below)),
#
# q over the spacing, on the upper face of each cell. The same as models/waves/staggered.py, which says what
# the coefficients are.

const REMAINDER = 1e-3

"The physical medium that determines the coefficients a, b and c of a cell."
abstract type Medium end

"1/a = rho c^2, b = 1/rho."
struct Sound <: Medium
    density::Float64
end
field_name(::Sound) = :wave_speed
start_name(::Sound) = :initial_pressure
@inline inverse_storage(sound::Sound, speed) = oftype(speed, sound.density) * speed^2
@inline mobility(sound::Sound, speed, _) = 1 / oftype(speed, sound.density)
@inline speed(::Sound, speed) = speed

"1/a = 1, b = g h."
struct Water <: Medium
    gravity::Float64
end
field_name(::Water) = :depth
start_name(::Water) = :initial_elevation
@inline inverse_storage(::Water, depth) = one(depth)
@inline mobility(water::Water, depth, above) = oftype(depth, water.gravity) * arithmetic(depth, above)
@inline speed(water::Water, depth) = sqrt(oftype(depth, water.gravity) * depth)

"""
    Wave(grid, medium; step, steps, every=1, checkpoints=steps, absorbing=[], sponge=0, source)

Waves in a `Sound(density)` or `Water(gravity)`. `source` is a `Forcing`, or nothing.

Unknown: p. Parameters: `wave_speed` or `depth`, and `initial_pressure` or `initial_elevation`, one
value a cell; `source`, one value a place and interval of `every` steps.
"""
struct Wave{N,M<:Medium} <: Explicit{N}
    grid::Grid{N}
    medium::M
    times::Times
    absorbing::NTuple{N,NTuple{2,Bool}}
    sponge::Int
    source::Union{Nothing,Forcing}

    function Wave(grid::Grid{N}, medium::M; step::Real, steps::Integer, every::Integer=1,
                  checkpoints::Integer=steps, absorbing=Symbol[], sponge::Integer=0,
                  source=nothing) where {N,M<:Medium}
        foreach(side -> check_side(grid, side), absorbing)
        ends = ntuple(d -> ntuple(e -> any(s -> SIDES[s] == (d, e == 2), absorbing), 2), N)
        return new{N,M}(grid, medium, Times(step, steps, every, checkpoints), ends, sponge, source)
    end
end

"The model of a table, in a medium."
function wave(grid::Grid, medium::Medium, table)
    source = haskey(table, "source") ? Forcing(grid, table["source"]) : nothing
    return Wave(grid, medium; step=table["step"], steps=table["steps"], every=table["every"],
                checkpoints=table["checkpoints"], absorbing=Symbol.(table["absorbing"]),
                sponge=table["sponge"], source)
end
const AcousticWave = Wave{N,Sound} where {N}
const ShallowWater = Wave{N,Water} where {N}
from_table(::Type{AcousticWave}, grid::Grid, table) = wave(grid, Sound(table["density"]), table)
from_table(::Type{ShallowWater}, grid::Grid, table) = wave(grid, Water(table["gravity"]), table)

forcing(model::Wave) = model.source
times(model::Wave) = model.times
parameters(model::Wave) =
    NamedTuple{(field_name(model.medium), start_name(model.medium))}((:cells, :cells))
damped(model::Wave) = model.sponge > 0

function coefficients(model::Wave{N}, field) where {N}
    c = (; keep=field(), pull=field(), push=ntuple(_ -> field(), N), load=field())
    return damped(model) ? (; c..., hold=ntuple(_ -> field(), N)) : c
end
state(::Wave{N}, field) where {N} = (; p=field(), q=ntuple(_ -> field(), N))
observed(::Wave, x) = x.p

function assembly(model::Wave{N}, ::Type{T}, block::Block) where {N,T}
    (; grid, medium, times, absorbing, sponge) = model
    law = Coefficients(medium, Val(field_name(medium)), T(times.step), T.(spacing(grid)), absorbing,
                       sponge, grid.shape)
    return Pair[law => block.own; [OnFaces(law, d) => inner_faces(block, d) for d in 1:N]]
end

"`keep` and `pull` of a cell."
struct Coefficients{N,M,F,T}
    medium::M
    name::Val{F}
    step::T
    h::NTuple{N,T}
    absorbing::NTuple{N,NTuple{2,Bool}}
    sponge::Int
    shape::NTuple{N,Int}
end
@inline function (law::Coefficients{N,M,F,T})(c, m, I) where {N,M,F,T}
    here = @inbounds getproperty(m, F)[I...]
    half = law.step / 2 * speed(law.medium, here) * (sponge(law, I) + leaving(law, I))
    @inbounds c.keep[I...] = (1 - half) / (1 + half)
    @inbounds c.pull[I...] = law.step * inverse_storage(law.medium, here) / (1 + half)
    return
end

"`push` and `hold` of the faces along an axis."
struct OnFaces{L}
    law::L
    axis::Int
end
@inline function (faces::OnFaces{Coefficients{N,M,F,T}})(c, m, I) where {N,M,F,T}
    (; law, axis) = faces
    J = up(I, axis)
    @inbounds here, above = getproperty(m, F)[I...], getproperty(m, F)[J...]
    push = law.step * mobility(law.medium, here, above) / law.h[axis]^2
    if haskey(c, :hold)
        half = law.step / 2 * arithmetic(speed(law.medium, here) * sponge(law, I),
                                         speed(law.medium, above) * sponge(law, J))
        @inbounds c.hold[axis][I...] = (1 - half) / (1 + half)
        push /= 1 + half
    end
    @inbounds c.push[axis][I...] = push
    return
end

"g in a cell: c g is the rate of damping."
@inline sponge(law::Coefficients{N,M,F,T}, I) where {N,M,F,T} =
    sponge(zero(T), law, I, Val(N))
@inline function sponge(total::T, law, I, ::Val{D}) where {T,D}
    (D == 0 || law.sponge == 0) && return total
    steepness = T(1.5 * log(1 / REMAINDER)) / (law.sponge * law.h[D])
    low, high = law.absorbing[D]
    if low
        total += steepness * max(0, 1 - T(I[D] - 2) / law.sponge)^2
    end
    if high
        total += steepness * max(0, 1 - T(law.shape[D] + 1 - I[D]) / law.sponge)^2
    end
    return sponge(total, law, I, Val(D - 1))
end

"Area of absorbing sides over the volume of a half cell."
@inline leaving(law::Coefficients{N,M,F,T}, I) where {N,M,F,T} = leaving(zero(T), law, I, Val(N))
@inline function leaving(total, law, I, ::Val{D}) where {D}
    D == 0 && return total
    total += (share(law.absorbing, law.shape, I, D) - 1) * 2 / law.h[D]
    return leaving(total, law, I, Val(D - 1))
end

"One over the part of a cell that counts along axis `d`: half of it where that side absorbs."
@inline share(absorbing, shape, I, d) =
    1 + ((absorbing[d][1] & (I[d] == 2)) | (absorbing[d][2] & (I[d] == shape[d] + 1)))

# Steps

"q^(n+1/2) in a cell."
struct Kick end
@inline (::Kick)(x, c, I) = kick(x, c, I, Val(length(I)))
@inline function kick(x, c, I, ::Val{D}) where {D}
    D == 0 && return
    @inbounds begin
        before = held(c, x.q[D][I...], I, D)
        x.q[D][I...] = before - c.push[D][I...] * (x.p[up(I, D)...] - x.p[I...])
    end
    return kick(x, c, I, Val(D - 1))
end
@inline held(c, q, I, d) = haskey(c, :hold) ? @inbounds(c.hold[d][I...] * q) : q

"p^(n+1) in a cell."
struct Drift{N}
    absorbing::NTuple{N,NTuple{2,Bool}}
    shape::NTuple{N,Int}
end
@inline function (drift::Drift)(x, c, I)
    @inbounds x.p[I...] = c.keep[I...] * x.p[I...] + c.pull[I...] * gain(drift, x.q, c, I)
    return
end
@inline gain(drift::Drift{N}, q, c, I) where {N} = gain(@inbounds(c.load[I...]), drift, q, I, Val(N))
@inline function gain(total, drift, q, I, ::Val{D}) where {D}
    D == 0 && return total
    @inbounds total -= share(drift.absorbing, drift.shape, I, D) * (q[D][I...] - q[D][down(I, D)...])
    return gain(total, drift, q, I, Val(D - 1))
end

stages(model::Wave, block::Block) =
    (Kick() => block.own, Drift(model.absorbing, model.grid.shape) => block.own)

"q = 0 at t = 0, so that half a step earlier q is minus the change in half a step."
function initial_state!(model::Wave{N}, sim, x, m) where {N}
    copyto!(x.p, m[start_name(model.medium)])
    foreach(q -> fill!(q, 0), x.q)
    assemble!(sim.kernels, sim.block.own, x, sim.c, Kick())
    for d in 1:N
        x.q[d] ./= .-(1 .+ holding(sim.c, d))
    end
    return
end
holding(c, d) = haskey(c, :hold) ? c.hold[d] : 1

# The transposed step, last stage first. Written to gather: Enzyme's reverse of `Kick` would
# scatter, by additions in any order. With what these have of `Kick` and `Drift`, q is the state
# after the step, p the one before, and qbar is that before `hold`.

"Transpose of `Drift` with respect to q, and of `hold` in the next step."
struct DriftBack{N}
    drift::Drift{N}
end
@inline function (back::DriftBack)(bar, given, I)
    (; p, q, c) = given
    (; drift) = back
    @inbounds begin
        pbar = bar.x.p[I...]
        bar.c.keep[I...] += p[I...] * pbar
        bar.c.pull[I...] += gain(drift, q, c, I) * pbar
        bar.c.load[I...] += c.pull[I...] * pbar
    end
    return drift_back(drift, bar.x, c, I, Val(length(I)))
end
@inline function drift_back(drift, xbar, c, I, ::Val{D}) where {D}
    D == 0 && return
    J = up(I, D)
    @inbounds begin
        here = share(drift.absorbing, drift.shape, I, D) * c.pull[I...] * xbar.p[I...]
        above = share(drift.absorbing, drift.shape, J, D) * c.pull[J...] * xbar.p[J...]
        xbar.q[D][I...] = held(c, xbar.q[D][I...], I, D) - (here - above)
    end
    return drift_back(drift, xbar, c, I, Val(D - 1))
end

"Transpose of `keep` in `Drift`, and of `Kick` without `hold`."
struct KickBack end
@inline function (::KickBack)(bar, given, I)
    c = given.c
    @inbounds pbar = c.keep[I...] * bar.x.p[I...]
    @inbounds bar.x.p[I...] = kick_back(pbar, bar, given, I, Val(length(I)))
    return
end
@inline function kick_back(pbar, bar, given, I, ::Val{D}) where {D}
    D == 0 && return pbar
    (; p, before, c) = given
    J = down(I, D)
    @inbounds begin
        qbar = bar.x.q[D][I...]
        bar.c.push[D][I...] -= (p[up(I, D)...] - p[I...]) * qbar
        if haskey(c, :hold)
            bar.c.hold[D][I...] += before[D][I...] * qbar
        end
        pbar += c.push[D][I...] * qbar - c.push[D][J...] * bar.x.q[D][J...]
    end
    return kick_back(pbar, bar, given, I, Val(D - 1))
end

transposed(model::Wave, block::Block) =
    (DriftBack(Drift(model.absorbing, model.grid.shape)) => block.own, KickBack() => block.own)

"The parts of the states before and after a step that the transposed stages use."
seen(::Wave, before, after, c) = (; p=before.p, q=after.q, before=before.q, c)

"The transpose of `initial_state!`: adds to cbar, and returns the derivatives by the initial p."
function initial_state_back!(model::Wave{N}, sim, xbar, cbar, m) where {N}
    (; c, x, block, kernels) = sim
    initial_state!(model, sim, x, m)
    for d in 1:N
        if damped(model)
            xbar.q[d] .*= c.hold[d]   # of the first step
            cbar.hold[d] .-= x.q[d] .* xbar.q[d] ./ (1 .+ c.hold[d])
        end
        xbar.q[d] ./= .-(1 .+ holding(c, d))
    end
    whole = merge(c, (; keep=fill!(similar(c.keep), 1)))
    given = (; p=m[start_name(model.medium)], before=map(zeroed, x.q), c=whole)
    assemble!(kernels, block.own, (; x=xbar, c=cbar), given, KickBack())
    return NamedTuple{(start_name(model.medium),)}((xbar.p,))
end
